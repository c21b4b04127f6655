//! Debian packages: installed into the system when the caller is root, otherwise (and for other suites than the
//! system's own) downloaded and unpacked. Which mirror to ask is read from the system's own sources.

use std::fs;
use std::path::{Path, PathBuf};

use super::{in_path, installer, lock, run};
use crate::error::{Context, Error, Result};
use crate::user;

/// Installs packages into the system; needs root.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if !user::is_root() || in_path("apt-get").is_none() {
        return Err(Error::Missing(format!(
            "missing: {}: install it, or run as root where apt is",
            packages.join(", ")
        )));
    }
    let _lock = lock::exclusive("apt")?;
    keep_clusters_away()?;
    run(installer("apt-get").arg("update"))?;
    run(installer("apt-get").args(["install", "-y", "--no-install-recommends"]).args(packages))?;
    Ok(())
}

/// Downloads packages of one suite and unpacks them into `into`.
///
/// `suite` is a code name, or `None` for the system's own.
pub(super) fn unpack(suite: Option<&str>, packages: &[&str], into: &Path) -> Result<()> {
    if in_path("apt-get").is_none() || in_path("dpkg-deb").is_none() {
        return Err(Error::Missing(format!("apt-get and dpkg-deb are needed to get {}", packages.join(", "))));
    }
    let suite = match suite {
        Some(name) => name.to_owned(),
        None => own_suite()?,
    };
    let downloads = tempfile::tempdir().context("create folder in", &std::env::temp_dir())?;
    let download = |lists: &Lists| {
        run(lists.apt("apt-get").arg("download").args(packages).current_dir(downloads.path())).map(drop)
    };
    if download(&Lists::update(&suite)?).is_err() {
        // A suite moves: a list from an earlier day names versions that are gone.
        Lists::forget(&suite)?;
        download(&Lists::update(&suite)?)?;
    }
    for entry in fs::read_dir(downloads.path()).context("list", downloads.path())? {
        let file = entry.context("list", downloads.path())?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(installer("dpkg-deb").arg("-x").arg(&file).arg(into))?;
        }
    }
    Ok(())
}

/// What `apt-cache depends` names for a package of the system's own suite.
pub(super) fn depends(package: &str) -> Result<Vec<String>> {
    let lists = Lists::update(&own_suite()?)?;
    let printed = run(lists.apt("apt-cache").args(["depends", "--important", package]))?;
    Ok(printed.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
}

/// Package lists of one suite, apart from the system's own lists.
struct Lists {
    folder: PathBuf,
}

impl Lists {
    fn update(suite: &str) -> Result<Self> {
        let lists = Self { folder: super::root()?.join("apt").join(suite) };
        let _lock = lock::exclusive(&format!("apt-{suite}"))?;
        let done = lists.folder.join("updated");
        if done.is_file() {
            return Ok(lists);
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = lists.folder.join(folder);
            fs::create_dir_all(&folder).context("create folder", &folder)?;
        }
        let sources = lists.folder.join("sources.list");
        fs::write(&sources, format!("deb {} {suite} main\n", own_mirror()?)).context("write", &sources)?;
        run(lists.apt("apt-get").arg("update"))?;
        fs::write(&done, "").context("write", &done)?;
        Ok(lists)
    }

    fn forget(suite: &str) -> Result<()> {
        let _lock = lock::exclusive(&format!("apt-{suite}"))?;
        let done = super::root()?.join("apt").join(suite).join("updated");
        fs::remove_file(&done).context("remove", &done)
    }

    fn apt(&self, program: &str) -> std::process::Command {
        let mut command = installer(program);
        for (name, value) in [
            ("Dir::Etc::sourcelist", self.folder.join("sources.list")),
            ("Dir::Etc::sourceparts", PathBuf::from("-")),
            ("Dir::State::lists", self.folder.join("lists")),
            ("Dir::Cache", self.folder.join("cache")),
        ] {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        }
        // Only the list of packages, and no change of user that a closed folder would defeat.
        command.args([
            "-o",
            "Acquire::Languages=none",
            "-o",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        ]);
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }
}

/// The mirror that the system's own sources name for its own suite.
fn own_mirror() -> Result<String> {
    let suite = own_suite()?;
    let printed = run(installer("apt-get").args(["indextargets", "--format", "$(CODENAME)|$(COMPONENT)|$(SITE)"]))?;
    let wanted = format!("{suite}|main|");
    printed
        .lines()
        .find_map(|line| line.strip_prefix(wanted.as_str()))
        .map(str::to_owned)
        .ok_or_else(|| Error::Missing(format!("the system's package sources name no mirror for {suite} main")))
}

/// The code name of the installed distribution.
fn own_suite() -> Result<String> {
    let path = Path::new("/etc/os-release");
    let text = fs::read_to_string(path).context("read", path)?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .ok_or_else(|| Error::Missing("/etc/os-release names no VERSION_CODENAME".to_owned()))
}

/// Debian's server package starts a cluster of its own when installed, unless told beforehand not to.
fn keep_clusters_away() -> Result<()> {
    let path = Path::new("/etc/postgresql-common/createcluster.conf");
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).context("create folder", folder)?;
    }
    fs::write(path, "create_main_cluster = false\n").context("write", path)
}
