//! `verify`

use pgbr_config::opt;
use pgbr_repo::command::verify::{VerifyOptions, VerifyReport, render_json, render_text, verify};
use pgbr_repo::error::ErrorKind;

use super::standard_output;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Verifies one repository. As in the original, damage is no failure of the command: the status tells of it. What could
/// not be read is one, since the question is then not answered.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    if let Some(parameter) = session.parsed.parameters.first() {
        return Err(Failure::new(ErrorKind::ParamInvalid, format!("command does not allow parameters: {parameter}")));
    }
    let options = session.options();
    let (index, repository) = session.default_repository()?;
    let verify_options = VerifyOptions {
        set: options.text(opt::SET).map(str::to_owned),
        workers: session.workers(),
        read_over_bytes: options.repo(index).size_bytes(opt::REPO_STORAGE_READ_OVER).unwrap_or(0),
    };
    let is_json = options.string_id(opt::OUTPUT) == Some("json");
    let context = if is_json { standard_output::quiet(&session.context) } else { session.context.clone() };
    let report = verify(&repository, &verify_options, &context).await?;
    if let Some(text) = render_text(&report, options.boolean(opt::VERBOSE)) {
        context.info(&text);
        if options.string_id(opt::OUTPUT) == Some("text") {
            standard_output::print(&format!("{text}\n"))?;
        }
    }
    if is_json {
        standard_output::print(&render_json(&report))?;
    }
    check_complete(&report)
}

fn check_complete(report: &VerifyReport) -> Result<Outcome, Failure> {
    let Some(first) = report.unreadable().next() else { return Ok(Outcome::Done) };
    let count = report.unreadable().count();
    let message = format!(
        "{count} object(s) could not be read, the first is '{}': {}\n\
         HINT: nothing is known about them; verify again when the repository can be read.",
        first.object, first.fault.detail
    );
    Err(Failure::new(ErrorKind::Command, message))
}
