//! `plan`, ours alone

use pgbr_config::engine::goal::recovery_goal;
use pgbr_config::opt;
use pgbr_repo::command::plan::{plan, render_json, render_text};
use pgbr_repo::error::ErrorKind;

use super::standard_output;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Prints what a recovery takes. The exit code says whether the target can be reached.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    if let Some(parameter) = session.parsed.parameters.first() {
        return Err(Failure::new(ErrorKind::ParamInvalid, format!("command does not allow parameters: {parameter}")));
    }
    let goal = recovery_goal(session.options())?;
    let context = standard_output::quiet(&session.context);
    let plan = plan(&session.repositories()?, &goal, &context).await?;
    let is_json = session.options().string_id(opt::OUTPUT) == Some("json");
    standard_output::print(&if is_json { render_json(&plan) } else { render_text(&plan, &goal.time_zone) })?;
    Ok(if plan.is_reachable() { Outcome::Done } else { Outcome::Unreachable })
}
