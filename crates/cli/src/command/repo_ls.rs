//! `repo-ls`

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use pgbr_config::engine::repositories;
use pgbr_config::opt;
use pgbr_repo::command::repo::{LsOptions, Order, ls};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::storage::{Entry, EntryKind, StoragePath};
use regex::Regex;

use super::{repo_path, standard_output};
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// The longest compiled filter.
const FILTER_BYTES_MAX: usize = 1024 * 1024;

/// Prints the entries of a directory of the repository.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let options = session.options();
    let index = repo_path::repository(session)?;
    let path = match session.parsed.parameters.as_slice() {
        [] => StoragePath::root(),
        [parameter] => repo_path::parse(session, index, parameter)?,
        _ => return Err(Failure::new(ErrorKind::ParamInvalid, "only one path may be specified")),
    };
    let ls_options = LsOptions {
        recurse: options.boolean(opt::RECURSE),
        order: if options.string_id(opt::SORT) == Some("desc") { Order::Descending } else { Order::Ascending },
    };
    let base = options.repo(index).require(opt::REPO_PATH)?.trim_end_matches('/');
    let mut printer = Printer {
        out: BufWriter::new(standard_output::open()?),
        is_json: options.string_id(opt::OUTPUT) == Some("json"),
        filter: options.text(opt::FILTER).map(filter).transpose()?,
        absolute: format!("{base}/{path}"),
        is_first: true,
    };
    let storage = repositories::storage(options, index, &|name| session.variable(name))?;
    let context = standard_output::quiet(&session.context);
    let mut written = printer.begin();
    let mut visit = |entry: &Entry| match printer.print(entry) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            written = Err(error);
            ControlFlow::Break(())
        }
    };
    ls(storage.as_ref(), path, ls_options, &context, &mut visit).await?;
    standard_output::check(written.and_then(|()| printer.end()))?;
    Ok(Outcome::Done)
}

fn filter(expression: &str) -> Result<Regex, Failure> {
    regex::RegexBuilder::new(expression).size_limit(FILTER_BYTES_MAX).build().map_err(|error| {
        Failure::new(ErrorKind::Format, format!("invalid regular expression in option 'filter': {error}"))
    })
}

/// Prints entries as they are found.
struct Printer<W> {
    out: W,
    is_json: bool,
    filter: Option<Regex>,
    /// The listed path with that of the repository, which the filter sees when it is a file.
    absolute: String,
    is_first: bool,
}

impl<W: Write> Printer<W> {
    fn begin(&mut self) -> io::Result<()> {
        if self.is_json { self.out.write_all(b"{") } else { Ok(()) }
    }

    fn print(&mut self, entry: &Entry) -> io::Result<()> {
        let is_self = entry.name == ".";
        let name = if is_self && entry.kind == EntryKind::Object { &self.absolute } else { &entry.name };
        if self.filter.as_ref().is_some_and(|filter| !filter.is_match(name)) {
            return Ok(());
        }
        if self.is_json {
            let separator = if self.is_first { "" } else { "," };
            self.is_first = false;
            return write!(self.out, "{separator}{}", json(entry));
        }
        if is_self && entry.kind == EntryKind::Directory {
            return Ok(());
        }
        writeln!(self.out, "{}", entry.name)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.is_json {
            self.out.write_all(b"}\n")?;
        }
        self.out.flush()
    }
}

/// `"name":{...}`
fn json(entry: &Entry) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let facts = match &entry.kind {
        EntryKind::Object => {
            let version = entry.version.as_ref().map(|version| format!(",\"version\":{}", quoted(&version.0)));
            let version = version.unwrap_or_default();
            format!("\"type\":\"file\",\"size\":{},\"time\":{}{version}", entry.size_bytes, entry.modified_s)
        }
        EntryKind::Directory => "\"type\":\"path\"".to_owned(),
        EntryKind::Link(target) => format!("\"type\":\"link\",\"destination\":{}", quoted(target)),
        EntryKind::Special => "\"type\":\"special\"".to_owned(),
    };
    format!("{}:{{{facts}}}", quoted(&entry.name))
}
