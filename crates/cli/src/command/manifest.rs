//! `manifest`

use std::io::BufWriter;

use jiff::tz::TimeZone;
use pgbr_config::opt;
use pgbr_repo::command::manifest::{ManifestForm, ManifestRequest, ShownFiles, manifest};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::format::BackupLabel;

use super::standard_output;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Prints what the manifest of a backup says.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let options = session.options();
    if options.is_given(opt::PG) {
        let message = "option 'pg' is not implemented: blocks are not compared with those of a cluster";
        return Err(Failure::new(ErrorKind::FeatureNotSupported, message));
    }
    let label = match options.text(opt::SET) {
        None | Some("latest") => None,
        Some(label) => Some(parse(label)?),
    };
    let files = match (options.text(opt::FILTER), options.text(opt::REFERENCE)) {
        (Some(name), _) => ShownFiles::Named(name.to_owned()),
        (None, Some("latest")) => ShownFiles::Own,
        (None, Some(label)) => ShownFiles::StoredIn(parse(label)?),
        (None, None) => ShownFiles::All,
    };
    let form = match options.string_id(opt::OUTPUT) {
        Some("json") => ManifestForm::Json,
        _ => ManifestForm::Text,
    };
    let request = ManifestRequest { label, files, form, time_zone: TimeZone::system() };
    let (_, repository) = session.default_repository()?;
    let context = standard_output::quiet(&session.context);
    manifest(&repository, &request, &mut BufWriter::new(standard_output::open()?), &context).await?;
    Ok(Outcome::Done)
}

fn parse(label: &str) -> Result<BackupLabel, Failure> {
    BackupLabel::parse(label).map_err(|error| Failure::new(ErrorKind::OptionInvalidValue, error.to_string()))
}
