//! A day of both proxies, in one runtime of which the clock jumps from one event to the next.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inproxy::forwarder::Forwarder;
use inproxy::forwards::Forwards;
use inproxy::loopback;
use outproxy::service::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use tunnel::host::DnsName;
use tunnel::listener::Peer;
use tunnel::stream::Stream;

use super::bytes::Bytes;
use super::config;
use super::end::{End, Side};
use super::journal::Journal;
use super::name_server;
use super::net::{self, Net};
use super::operator::Operator;
use super::plan::{DAY, HOUR, Plan, To, Trouble};
use super::record::{Loiterer, Record, Recorder};
use super::site::Sites;

/// Lives through a day, and tells what was seen.
pub(crate) fn live(plan: &Arc<Plan>) -> Record {
    let directory = tempfile::tempdir().unwrap();
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let recorder = Recorder::new(plan.streams.len());
        let _guard = tracing::subscriber::set_default(Journal(recorder.clone()));
        // What waits for sockets begins with the first, and stays.
        drop(Stream::try_from(UnixStream::pair().unwrap().0).unwrap());
        let before = (descriptors(), tasks());
        let mut record = Box::pin(day(Arc::clone(plan), directory.path(), recorder)).await;
        let after = (descriptors(), tasks());
        if after.0 > before.0 || after.1 > before.1 {
            record.broken.push(format!("N5: descriptors, tasks: {before:?} became {after:?}"));
        }
        record
    })
}

/// How many descriptors this process has, if they are all those of one day.
fn descriptors() -> Option<usize> {
    env::var_os("NEXTEST")?;
    Some(fs::read_dir("/proc/self/fd").unwrap().count())
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

async fn day(plan: Arc<Plan>, directory: &Path, recorder: Recorder) -> Record {
    let net = Net::new();
    let state = name_server::State::new();
    let mut sites = Sites::new(Arc::clone(&plan), net, recorder.clone()).await;
    let name_server = tokio::spawn(name_server::serve(net, state.clone(), recorder.clone()));
    let mut operator = Operator::start(Arc::clone(&plan), net, directory, recorder.clone());

    let config = config::inproxy(&plan.inproxy, net, directory);
    let names = loopback::assign(config.hosts());
    let forwards = Forwards::new(&config, &names);
    let forwarder = Forwarder::new(config, forwards).unwrap();
    let logging = Arc::clone(&forwarder);
    let logging = tokio::spawn(async move { logging.journal().count_suppressed().await });
    let mut others = JoinSet::new();
    for (index, stream) in plan.streams.iter().enumerate() {
        let local = local_address(stream.to, net, &names);
        let (plan, recorder) = (Arc::clone(&plan), recorder.clone());
        others.spawn(client(plan, index, net, local, Arc::clone(&forwarder), recorder));
    }
    for at in &plan.loiterers {
        others.spawn(loiter(*at, directory.join("routed"), recorder.clone()));
    }

    let trouble = cause_trouble(&plan, &mut sites, &state, &recorder);
    tokio::join!(operator.operate(), trouble);
    sleep_until(recorder.at(DAY)).await;
    operator.finish().await;
    let grace = forwarder.shutdown_grace();
    forwarder.connections().drain(grace, pending::<()>()).await;
    forwarder.notices().leave().await;
    // Whoever lingers after an abort has had the time to.
    sleep(Duration::from_millis(HOUR)).await;

    sites.close_all().await;
    name_server.abort();
    logging.abort();
    while others.try_join_next().is_some() {}
    let waiting = others.len();
    others.shutdown().await;
    let mut record = std::mem::take(&mut *recorder.lock());
    check_quiet(&mut record, waiting, &forwarder, operator.services());
    drop((forwarder, operator));
    sleep(Duration::from_millis(1)).await;
    record
}

/// Everybody knows that all is over, and nothing is counted that is.
fn check_quiet(
    record: &mut Record,
    waiting: usize,
    forwarder: &Forwarder,
    services: &[Arc<Service>],
) {
    if waiting > 0 {
        record.broken.push(format!("{waiting} clients still wait, after all has ended"));
    }
    if forwarder.connections().count() > 0 {
        record.broken.push("N5: inproxy still counts connections".into());
    }
    for service in services {
        let policy = service.policy();
        if service.connections().count() > 0
            || policy.allowlist.rules().iter().any(|rule| rule.open() > 0)
        {
            record.broken.push("N5: outproxy still counts connections".into());
        }
        let tally = service.journal().tally();
        record.tallied += tally.outcomes.iter().map(|(.., count)| count).sum::<u64>();
    }
}

/// The address that the client connects to, as it is in the enclave.
fn local_address(to: To, net: Net, names: &BTreeMap<DnsName, Ipv4Addr>) -> IpAddr {
    match to {
        To::Name(number) => names[&name_server::name(number).parse().unwrap()].into(),
        To::Raw => net.site(super::plan::RAW_SITE).ip(),
        To::Site(site) => net.site(site).ip(),
    }
}

async fn client(
    plan: Arc<Plan>,
    index: usize,
    net: Net,
    local: IpAddr,
    forwarder: Arc<Forwarder>,
    recorder: Recorder,
) {
    sleep_until(recorder.at(plan.streams[index].at)).await;
    let (socket, inproxys) = net::connect(net, local);
    // A name that no other client of the day has.
    let peer = Peer::Tcp((Ipv4Addr::LOCALHOST, u16::try_from(index).unwrap()).into());
    {
        let now = recorder.now();
        let stream = &mut recorder.lock().streams[index];
        (stream.name, stream.client.begun) = (peer.to_string(), now);
    }
    forwarder.serve(Stream::try_from(inproxys).unwrap(), peer);
    drop(forwarder);
    let [sends, expects] = [true, false].map(|client| Bytes::new(plan.seed, index, client));
    let part = &plan.streams[index].client;
    let side = Side::Client;
    End { socket, index, side, part, sends, expects, recorder }.perform().await;
}

/// Says half of what it wants to outproxy, and waits.
async fn loiter(at: u64, socket: std::path::PathBuf, recorder: Recorder) {
    sleep_until(recorder.at(at)).await;
    // Where nobody listens there is nothing to see.
    let Ok(mut stream) = UnixStream::connect(socket).await else { return };
    let _ = stream.write_all(b"CONNECT ").await;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    let answered = recorder.now();
    recorder.lock().loiterers.push(Loiterer { from: at, answered, answer });
}

async fn cause_trouble(
    plan: &Plan,
    sites: &mut Sites,
    state: &name_server::State,
    recorder: &Recorder,
) {
    for (at, trouble) in plan.troubles.iter().filter(|(at, _)| *at < DAY) {
        sleep_until(recorder.at(*at)).await;
        match trouble {
            Trouble::NameServer(mode) => {
                recorder.lock().name_server.push((*at, *mode));
                state.set(*mode);
            }
            Trouble::Site(site, kind) => sites.set(*site, *kind).await,
            Trouble::Zone(name, zone) => state.set_zone(*name, zone.clone()),
        }
    }
}
