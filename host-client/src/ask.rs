//! A run, from its command line to its exit status.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;
use protocol::request::Credentials;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::cli::{Act, Cli, Options};
use crate::ending::{AskError, Verdict};
use crate::exchange::exchange;
use crate::text::printable;
use crate::{compat, credentials, files, own};

/// Asks, shows the answer, and says how it ended.
#[must_use]
pub fn run(options: &Options, act: &Act) -> ExitCode {
    let form = match Form::new(options, act) {
        Ok(form) => form,
        Err(mistake) => {
            // Where standard error is closed, the exit status says it all the same.
            let _ = mistake.print();
            return ExitCode::from(USAGE);
        }
    };
    let id = Uuid::new_v4().to_string();
    match block_on(options, act, form, &id) {
        Ok(verdict) => verdict.into(),
        Err(error) => {
            // As above.
            let _ = if options.json {
                writeln!(io::stdout(), "{}", error.to_json(&id))
            } else {
                writeln!(io::stderr(), "host-client: {}", error.explain())
            };
            error.exit_code()
        }
    }
}

/// In which form is asked.
#[derive(Clone, Copy)]
enum Form<'a> {
    Compat(compat::Question<'a>),
    Own,
}

impl<'a> Form<'a> {
    /// What the options mean together.
    fn new(options: &Options, act: &'a Act) -> Result<Self, clap::Error> {
        let mistake = |words: &str| Err(Cli::command().error(ErrorKind::ArgumentConflict, words));
        if options.region.is_some() != options.secret_id.is_some() {
            return mistake("--region and --secret-id go together: they name one secret");
        }
        if options.json && act.shapes_output() {
            return mistake("--out and --raw mean nothing with --json: the answer holds the bytes");
        }
        if !options.compat {
            return Ok(Self::Own);
        }
        if options.secret_id.is_some() {
            return mistake("with --compat, which secret it is cannot be said; the enclave knows");
        }
        compat::Question::new(act).map(Self::Compat).map_or_else(
            || {
                mistake(
                    "with --compat there are only `create-key` (of the kind aes-256, without \
                     --usage), `get-key`, `delete-key` and `echo`",
                )
            },
            Ok,
        )
    }
}

fn block_on(options: &Options, act: &Act, form: Form<'_>, id: &str) -> Result<Verdict, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AskError::Runtime)?;
    let verdict = runtime.block_on(async {
        match form {
            Form::Compat(question) => ask_compat(options, act, question, id).await,
            Form::Own => ask_own(options, act, id).await,
        }
    });
    // A name that is being looked up cannot be called off.
    runtime.shutdown_background();
    verdict
}

async fn ask_own(options: &Options, act: &Act, id: &str) -> Result<Verdict, AskError> {
    let action = own::action(act, options.json)?;
    let credentials = credentials(options, act).await?;
    let question = own::Question::new(id, action, credentials, options);
    let answer = send(options, &question.encode()?).await?;
    question.show(options, act, &answer)
}

async fn ask_compat(
    options: &Options,
    act: &Act,
    question: compat::Question<'_>,
    id: &str,
) -> Result<Verdict, AskError> {
    let order = question.order(credentials(options, act).await?);
    let content = send(options, &order.encode(id)?).await?;
    let (answer, json) = compat::parse(&content)
        .map_err(|source| AskError::Malformed { endpoint: options.endpoint.clone(), source })?;
    let verdict = question.verdict(&answer);
    let text = answer.error.as_ref().or(answer.value.as_ref());
    let text = text.map_or_else(|| "the answer is empty".into(), |text| printable(text));
    match verdict {
        _ if options.json => files::write(None, format!("{json}\n").as_bytes())?,
        Verdict::Done => files::write(None, format!("{text}\n").as_bytes())?,
        Verdict::Refused => {
            // The exit status says it too.
            let _ = writeln!(io::stderr(), "host-client: {text}");
        }
    }
    Ok(verdict)
}

async fn credentials(options: &Options, act: &Act) -> Result<Option<Credentials>, AskError> {
    if !act.needs_hsm() {
        return Ok(None);
    }
    Ok(Box::pin(credentials::fetch(options.credentials)).await?)
}

async fn send(options: &Options, request: &[u8]) -> Result<Zeroizing<Vec<u8>>, AskError> {
    let Options { endpoint, timeout, wait, .. } = options;
    Ok(exchange(endpoint, request, *timeout, *wait).await?)
}

/// As clap's own.
const USAGE: u8 = 2;
