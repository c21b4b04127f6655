//! The commands, those of pgBackRest and a few of our own, and what holds for each as a whole.

use std::fmt;

use crate::error::{ConfigError, ErrorClass};

/// A verb, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Command {
    Annotate,
    ArchiveGet,
    ArchivePush,
    Backup,
    Check,
    Completion,
    Expire,
    Help,
    Info,
    Manifest,
    Plan,
    RepoGet,
    RepoLs,
    RepoRm,
    Restore,
    /// Ours alone: pgBackRest has no resident archiver
    Serve,
    Server,
    ServerPing,
    StanzaCreate,
    StanzaDelete,
    StanzaUpgrade,
    Start,
    Stop,
    Verify,
    Version,
}

/// Which part of a command a process carries out.
///
/// pgBackRest has two more, `local` and `remote`, for its worker processes; there are none here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Main,
    /// The background part of archive-push and archive-get
    Async,
}

impl Role {
    /// Suffix of the command's name: `:async`, or nothing.
    pub const fn suffix(self) -> &'static str {
        match self {
            Role::Main => "",
            Role::Async => ":async",
        }
    }
}

/// Which lock files a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockType {
    None,
    Archive,
    Backup,
    Restore,
    All,
}

/// Facts about a command, as pgBackRest's `build/config.yaml` states them.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub command: Command,
    pub name: &'static str,
    /// One line that says what the command does
    pub help: &'static str,
    /// Words after the command are allowed
    pub parameters: bool,
    pub lock_type: LockType,
    /// The lock is taken before the command does anything
    pub lock_required: bool,
    /// The run is written to a log file
    pub log_file: bool,
    /// Begin and end are logged as INFO; otherwise as DEBUG, so as not to spoil what the command prints
    pub log_begin_as_info: bool,
    /// Left out of overviews
    pub internal: bool,
    /// A command of this program: pgBackRest does not know it, so that its name is never a shorter one of theirs
    pub own: bool,
    /// Why the command cannot be used here, where that is so
    pub refused: Option<&'static str>,
}

const fn facts(command: Command, name: &'static str, help: &'static str) -> Facts {
    Facts {
        command,
        name,
        help,
        parameters: false,
        lock_type: LockType::None,
        lock_required: false,
        log_file: false,
        log_begin_as_info: true,
        internal: false,
        own: false,
        refused: None,
    }
}

impl Facts {
    const fn parameters(mut self) -> Facts {
        self.parameters = true;
        self
    }

    const fn locks(mut self, lock_type: LockType) -> Facts {
        self.lock_type = lock_type;
        self.lock_required = !matches!(lock_type, LockType::Archive);
        self
    }

    const fn log_file(mut self) -> Facts {
        self.log_file = true;
        self
    }

    const fn quiet(mut self) -> Facts {
        self.log_begin_as_info = false;
        self
    }

    const fn internal(mut self) -> Facts {
        self.internal = true;
        self
    }

    const fn own(mut self) -> Facts {
        self.own = true;
        self
    }

    const fn refused(mut self, reason: &'static str) -> Facts {
        self.refused = Some(reason);
        self
    }
}

const NO_SERVER: &str = "there is no TLS server: every host reaches the repository itself";

/// In the order of `Command`, which is the order of their names in pgBackRest.
static FACTS: [Facts; 25] = {
    use Command::*;
    [
        facts(Annotate, "annotate", "add, change or remove notes of a backup").locks(LockType::Backup),
        facts(ArchiveGet, "archive-get", "fetch a WAL segment or another archived file for PostgreSQL")
            .locks(LockType::Archive)
            .parameters(),
        facts(ArchivePush, "archive-push", "store a WAL segment or another file for PostgreSQL")
            .locks(LockType::Archive)
            .parameters(),
        facts(Backup, "backup", "back up a cluster").locks(LockType::Backup).log_file(),
        facts(Check, "check", "prove that archiving works and that the configuration fits the cluster"),
        facts(Completion, "completion", "print a script that completes commands and options in a shell")
            .parameters()
            .quiet()
            .own(),
        facts(Expire, "expire", "remove backups and WAL beyond what is to be retained")
            .locks(LockType::Backup)
            .log_file(),
        facts(Help, "help", "explain commands and options").parameters().quiet(),
        facts(Info, "info", "show stanzas and their backups").quiet(),
        facts(Manifest, "manifest", "show the manifest of a backup").quiet().internal(),
        facts(Plan, "plan", "show what a recovery to a target takes, and whether it can be reached").quiet().own(),
        facts(RepoGet, "repo-get", "print a file of the repository").parameters().quiet(),
        facts(RepoLs, "repo-ls", "list a path of the repository").parameters().quiet(),
        facts(RepoRm, "repo-rm", "remove a path of the repository").parameters().quiet().internal(),
        facts(Restore, "restore", "restore a cluster").locks(LockType::Restore).log_file(),
        facts(Serve, "serve", "archive and fetch WAL for archive-push and archive-get, as a process that stays")
            .log_file()
            .own(),
        facts(Server, "server", "serve other hosts over TLS").log_file().refused(NO_SERVER),
        facts(ServerPing, "server-ping", "ask a TLS server whether it is there").parameters().refused(NO_SERVER),
        facts(StanzaCreate, "stanza-create", "set up the stanza of a cluster").locks(LockType::All).log_file(),
        facts(StanzaDelete, "stanza-delete", "remove a stanza with all its backups and WAL")
            .locks(LockType::All)
            .log_file(),
        facts(StanzaUpgrade, "stanza-upgrade", "adopt a cluster after a major upgrade").locks(LockType::All).log_file(),
        facts(Start, "start", "allow commands again after stop").log_file(),
        facts(Stop, "stop", "keep further commands from running").log_file(),
        facts(Verify, "verify", "read everything and check it against its checksums").log_file(),
        facts(Version, "version", "show the version").quiet(),
    ]
};

impl Command {
    /// Every command, by name.
    pub const ALL: [Command; 25] = {
        use Command::*;
        [
            Annotate,
            ArchiveGet,
            ArchivePush,
            Backup,
            Check,
            Completion,
            Expire,
            Help,
            Info,
            Manifest,
            Plan,
            RepoGet,
            RepoLs,
            RepoRm,
            Restore,
            Serve,
            Server,
            ServerPing,
            StanzaCreate,
            StanzaDelete,
            StanzaUpgrade,
            Start,
            Stop,
            Verify,
            Version,
        ]
    };

    /// What holds for the command as a whole.
    pub fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Name of the command and its role as log lines have it: `archive-push:async`.
    pub fn name_with_role(self, role: Role) -> String {
        format!("{}{}", self.name(), role.suffix())
    }

    /// Has the command a part that goes on in the background?
    pub const fn has_background(self) -> bool {
        matches!(self, Command::ArchiveGet | Command::ArchivePush)
    }

    /// The command of this name, or the only one whose name begins so.
    ///
    /// pgBackRest takes the first of several, and `archive` or `s` would run something nobody asked for; that is
    /// refused here.
    pub(crate) fn from_argument(argument: &str) -> Result<Command, ConfigError> {
        if let Some(exact) = Command::ALL.into_iter().find(|command| command.name() == argument) {
            return Ok(exact);
        }
        let invalid = || ConfigError::new(ErrorClass::CommandInvalid, format!("invalid command '{argument}'"));
        let mut matches =
            Command::ALL.into_iter().filter(|command| !command.facts().own && command.name().starts_with(argument));
        match (argument.is_empty(), matches.next(), matches.next()) {
            (false, Some(only), None) => Ok(only),
            (false, Some(first), Some(second)) => Err(invalid().hint(format!(
                "it could mean '{}' or '{}'; write the whole name",
                first.name(),
                second.name()
            ))),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A set of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commands(u32);

impl Commands {
    const fn of(command: Command) -> Commands {
        Commands(1 << command as u32)
    }

    pub const fn contains(self, command: Command) -> bool {
        self.0 & Commands::of(command).0 != 0
    }

    pub(crate) const fn with(self, other: Commands) -> Commands {
        Commands(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Commands) -> Commands {
        Commands(self.0 & !other.0)
    }
}

/// Short names for the table.
pub(crate) mod set {
    use super::{Command, Commands};

    pub(crate) const AN: Commands = Commands::of(Command::Annotate);
    pub(crate) const AG: Commands = Commands::of(Command::ArchiveGet);
    pub(crate) const AP: Commands = Commands::of(Command::ArchivePush);
    pub(crate) const BK: Commands = Commands::of(Command::Backup);
    pub(crate) const CK: Commands = Commands::of(Command::Check);
    pub(crate) const EX: Commands = Commands::of(Command::Expire);
    pub(crate) const HE: Commands = Commands::of(Command::Help);
    pub(crate) const IN: Commands = Commands::of(Command::Info);
    pub(crate) const MF: Commands = Commands::of(Command::Manifest);
    pub(crate) const PL: Commands = Commands::of(Command::Plan);
    pub(crate) const RG: Commands = Commands::of(Command::RepoGet);
    pub(crate) const RL: Commands = Commands::of(Command::RepoLs);
    pub(crate) const RR: Commands = Commands::of(Command::RepoRm);
    pub(crate) const RE: Commands = Commands::of(Command::Restore);
    pub(crate) const SE: Commands = Commands::of(Command::Serve);
    pub(crate) const SV: Commands = Commands::of(Command::Server);
    pub(crate) const SP: Commands = Commands::of(Command::ServerPing);
    pub(crate) const SC: Commands = Commands::of(Command::StanzaCreate);
    pub(crate) const SD: Commands = Commands::of(Command::StanzaDelete);
    pub(crate) const SU: Commands = Commands::of(Command::StanzaUpgrade);
    pub(crate) const ST: Commands = Commands::of(Command::Start);
    pub(crate) const TO: Commands = Commands::of(Command::Stop);
    pub(crate) const VE: Commands = Commands::of(Command::Verify);
    pub(crate) const VN: Commands = Commands::of(Command::Version);

    /// Known to no command in its main role
    pub(crate) const NONE: Commands = Commands(0);
    /// Commands that connect to the server
    pub(crate) const SQL: Commands = BK.with(CK).with(SC).with(SD).with(SU);
    /// Commands that may work on a cluster of another host
    pub(crate) const CLUSTER: Commands = SQL.with(MF);
    /// Commands that know the data directory
    pub(crate) const PGDATA: Commands = CLUSTER.with(AG).with(AP).with(RE).with(SE);
    /// Commands that touch a repository
    pub(crate) const REPOSITORY: Commands =
        PGDATA.with(AN).with(EX).with(IN).with(PL).with(RG).with(RL).with(RR).with(VE);
    /// Commands that may use the network
    pub(crate) const NET: Commands = REPOSITORY.with(SV).with(SP);
    /// Every command but help and version
    pub(crate) const ANY: Commands = NET.with(ST).with(TO);
    /// Commands that look at lock or stop files
    pub(crate) const LOCKS: Commands =
        AN.with(AG).with(AP).with(BK).with(EX).with(IN).with(RE).with(SC).with(SD).with(SE).with(SU).with(ST).with(TO);
    /// Commands that transfer many files
    pub(crate) const WORK: Commands = AG.with(AP).with(BK).with(RE).with(SE).with(VE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_stand_where_their_command_looks_for_them() {
        for command in Command::ALL {
            assert_eq!(command.facts().command, command);
        }
    }

    #[test]
    fn a_name_may_be_shortened_while_it_is_clear() {
        assert_eq!(Command::from_argument("backup").unwrap(), Command::Backup);
        assert_eq!(Command::from_argument("back").unwrap(), Command::Backup);
        assert_eq!(Command::from_argument("server").unwrap(), Command::Server);
        assert_eq!(Command::from_argument("c").unwrap(), Command::Check);
        assert_eq!(Command::from_argument("plan").unwrap(), Command::Plan);
        assert!(Command::from_argument("pla").is_err(), "our own commands have whole names only");
        for unclear in ["", "s", "archive", "stanza-", "repo-", "re", "backups"] {
            assert_eq!(Command::from_argument(unclear).unwrap_err().class, ErrorClass::CommandInvalid, "{unclear}");
        }
    }
}
