//! The files of both proxies.

use std::path::Path;

use super::name_server::name;
use super::net::Net;
use super::plan::{Inproxy, Ms, NAMES, Policy, RAW_SITE, SITES};

/// That of inproxy.
pub(crate) fn inproxy(limits: &Inproxy, net: Net, directory: &Path) -> inproxy::config::Config {
    let Inproxy { await_answer, connect, grace, half_close, header, idle, retry } = limits;
    let (directory, port) = (directory.display(), net.port);
    let literals: Vec<_> = (0..RAW_SITE).map(|site| net.site(site).ip().to_string()).collect();
    let mut text = format!(
        "outproxy = 'unix:{directory}/routed'\nawait-answer = {await_answer}\n\
         [[forward]]\nname = 'literal'\naddresses = {literals:?}\nports = [{port}]\n\
         [[forward]]\nname = 'raw'\naddresses = ['{}']\nports = [{port}]\n\
         via = 'unix:{directory}/raw'\n",
        net.site(RAW_SITE).ip(),
    );
    for number in 0..NAMES {
        let name = name(number);
        text += &format!("[[forward]]\nname = 'n{number}'\nhost = '{name}'\nports = [{port}]\n");
    }
    text += &limits_table(*connect, *header, *idle, *half_close, *grace);
    text += &format!("outproxy-retry = '{retry}ms'\n");
    text.parse().unwrap()
}

/// That of outproxy.
pub(crate) fn outproxy(policy: &Policy, net: Net, directory: &Path) -> String {
    let Policy { sites, names, connect, grace, half_close, header, idle, most } = policy;
    let (directory, port) = (directory.display(), net.port);
    let mut text = format!("[[listen]]\non = 'unix:{directory}/routed'\n");
    if sites[RAW_SITE] {
        let to = net.site(RAW_SITE);
        text += &format!("[[listen]]\non = 'unix:{directory}/raw'\nto = '{to}'\n");
    }
    let sites = (0..SITES).filter(|site| sites[*site]).map(|site| net.site(site).ip().to_string());
    let names = (0..NAMES).filter(|number| names[*number]).map(name);
    for (rule, hosts) in [("sites", sites.collect()), ("names", names.collect::<Vec<_>>())] {
        if !hosts.is_empty() {
            text += &format!("[[allow]]\nname = '{rule}'\nhosts = {hosts:?}\nports = [{port}]\n");
        }
    }
    text += &limits_table(*connect, *header, *idle, *half_close, *grace);
    text += &format!("max-connections = {most}\n[dns]\nservers = ['{}']\n", net.name_server());
    text
}

fn limits_table(connect: Ms, header: Ms, idle: Option<Ms>, half_close: Ms, grace: Ms) -> String {
    let idle = idle.unwrap_or(0);
    format!(
        "[limits]\nconnect-timeout = '{connect}ms'\nheader-timeout = '{header}ms'\n\
         idle-timeout = '{idle}ms'\nhalf-close-timeout = '{half_close}ms'\n\
         shutdown-grace = '{grace}ms'\n"
    )
}
