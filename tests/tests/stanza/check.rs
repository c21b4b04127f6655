//! `check` against real servers: what the original says, ours says.

use jiff::Timestamp;
use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::process::{self, DEFAULT_LIMIT};
use pgbr_testkit::{pgbr, stock, user};

use crate::both::{Effect, Side};

struct Scene {
    dir: tempfile::TempDir,
    cluster: Cluster,
    side: Side,
}

impl Scene {
    fn new() -> Self {
        let dir = user::scratch().unwrap();
        let data = dir.path().join("data");
        let mut side = Side::new(&pgbr::engine(), dir.path().join("backrest"), &data);
        let archive_command = Some(side.engine.archive_command(&side.conf));
        let cluster = Cluster::started(Version::V15, &data, Options { archive_command, ..Options::default() }).unwrap();
        side.conf.cluster(&cluster).unwrap();
        Self { dir, cluster, side }
    }

    /// Both on the same repository, one after the other.
    fn agree(&self, what: &str, arguments: &[&str]) -> (i32, Vec<String>) {
        let stock =
            Side { engine: stock::newest().engine.clone(), conf: self.side.conf.clone(), root: self.side.root.clone() };
        let (stock, ours) = (shown(&stock.run(arguments)), shown(&self.side.run(arguments)));
        assert_eq!(ours, stock, "{what}");
        ours
    }
}

impl Scene {
    /// The newest segment of the repository, and when it was stored.
    fn newest(&self) -> Option<(String, Timestamp)> {
        let files = self.side.files();
        let name =
            files.keys().filter(|name| name.starts_with("repo/archive/demo/15-1/0") && name.ends_with(".gz")).max()?;
        let stored = std::fs::metadata(self.side.path(name)).unwrap().modified().unwrap();
        let segment = name.rsplit('/').next().unwrap()[..24].to_owned();
        Some((segment, Timestamp::from_second(Timestamp::try_from(stored).unwrap().as_second()).unwrap()))
    }

    /// Nothing arrives: how long that has been so is told as the repository knows it, also when it never had anything.
    fn tells_since_when(&self) {
        let told = || self.side.run(&["check", "--archive-timeout=100ms"]).lines.join("\n");
        let (segment, at) = self.newest().unwrap();
        let text = told();
        assert!(text.contains(&format!("HINT: no WAL has come to repo1 since {at}, when {segment} did.")), "{text}");
        let (archive, aside) = (self.side.path("repo/archive/demo/15-1"), self.side.path("aside"));
        std::fs::rename(&archive, &aside).unwrap();
        let text = told();
        assert!(text.contains("HINT: no WAL of this cluster has ever come to repo1."), "{text}");
        std::fs::rename(&aside, &archive).unwrap();
    }
}

/// Exit code and lines; of a segment only that it is one, and of an error only its code.
fn shown(effect: &Effect) -> (i32, Vec<String>) {
    let is_hex = |word: &str| word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mask = |line: &String| {
        let line = line.split("]: ").next().filter(|_| line.contains("ERROR: [")).unwrap_or(line).to_owned();
        let masked: Vec<String> = line
            .split_inclusive([' ', '/', '-', '.'])
            .map(|word| {
                let (text, end) = word.split_at(word.trim_end_matches([' ', '/', '-', '.']).len());
                if is_hex(text) { format!("HEX{end}") } else { word.to_owned() }
            })
            .collect();
        masked.concat()
    };
    let lines = effect.lines.iter().filter(|line| line.starts_with('P') && !line.contains("WARN: unable to check pg"));
    (effect.code, lines.map(mask).collect())
}

/// Also when nothing is archived any more (row NP10), whatever the server believes.
#[test]
fn np10_check_says_what_the_original_says() {
    let mut scene = Scene::new();
    assert_eq!(scene.agree("no stanza", &["check"]).0, 55);
    pgbr::engine().ok(&scene.side.conf, &["stanza-create"]).unwrap();
    let (code, lines) = scene.agree("good", &["check"]);
    assert_eq!(code, 0);
    assert!(lines.iter().any(|line| line.contains("successfully archived to 'ROOT/repo/archive/demo/15-1/HEX/HEX-HEX.gz' on repo1")), "{lines:?}");
    scene.agree("no archive check", &["check", "--no-archive-check"]);
    scene.agree("one repository only", &["check", "--repo=1"]);

    scene.side.conf.global("backup-standby", "y").unwrap();
    scene.agree("no standby", &["check"]);
    scene.side.conf.without("backup-standby").unwrap();

    scene.side.second_repository();
    assert_eq!(scene.agree("the second has no stanza", &["check"]).0, 55);
    pgbr::engine().ok(&scene.side.conf, &["stanza-create"]).unwrap();
    assert_eq!(scene.agree("two repositories", &["check"]).0, 0);
    scene.side.conf.without("repo2-path").unwrap();

    let good = pgbr::engine().archive_command(&scene.side.conf);
    for (what, command, code) in [
        ("something else archives", "cp %p /dev/null", 68),
        ("something else archives, with success", "true", 68),
        ("behind a shell", &*format!("sh -c 'exec {good}'"), 0),
    ] {
        scene.cluster.set_archive_command(command).unwrap();
        assert_eq!(scene.agree(what, &["check"]).0, code, "{what}");
    }
    scene.cluster.set_archive_command("false pgbackrest").unwrap();
    assert_eq!(scene.agree("nothing arrives", &["check", "--archive-timeout=1"]).0, 82);
    scene.tells_since_when();
    scene.cluster.set_archive_command(&good).unwrap();

    // The server that answers is not the one that is configured.
    let other = scene.dir.path().join("other");
    drop(Cluster::create(Version::V15, &other, Options::default()).unwrap());
    scene.side.conf.local("pg1-path", other.to_str().unwrap()).unwrap();
    assert_eq!(scene.agree("another directory", &["check"]).0, 58);
    // The stanza is of another cluster.
    scene.side.conf.local("repo1-path", scene.side.path("repo-other").to_str().unwrap()).unwrap();
    user::create_dir(&scene.side.path("repo-other")).unwrap();
    pgbr::engine().ok(&scene.side.conf, &["stanza-create", "--no-online"]).unwrap();
    scene.side.conf.cluster(&scene.cluster).unwrap();
    assert_eq!(scene.agree("another stanza", &["check"]).0, 28);
    scene.side.conf.without("repo1-path").unwrap();
    scene.side.conf.global("repo1-path", scene.side.path("repo").to_str().unwrap()).unwrap();

    for (mode, arguments, code) in
        [("off", &["check"][..], 87), ("always", &["check"], 67), ("always", &["check", "--no-archive-mode-check"], 0)]
    {
        scene.cluster.append_conf(&format!("archive_mode = {mode}")).unwrap();
        scene.cluster.stop(Shutdown::Fast).unwrap();
        scene.cluster.start().unwrap();
        assert_eq!(scene.agree(mode, arguments).0, code, "{mode}");
    }
    scene.cluster.stop(Shutdown::Fast).unwrap();
    assert_eq!(scene.agree("no server", &["check"]).0, 27);
}

#[test]
fn ours_knows_its_own_name_in_archive_command_and_stanzas_without_naming_them() {
    let scene = Scene::new();
    pgbr::engine().ok(&scene.side.conf, &["stanza-create"]).unwrap();
    // Nothing in this command says pgbackrest.
    let link = scene.dir.path().join("pgbr");
    std::fs::copy(pgbr::engine().binary(), &link).unwrap();
    let conf = scene.dir.path().join("conf");
    std::fs::copy(scene.side.conf.path(), &conf).unwrap();
    user::own(&conf).unwrap();
    user::own(&link).unwrap();
    let command = format!("{} --config={} --stanza=demo archive-push %p", link.display(), conf.display());
    scene.cluster.set_archive_command(&command).unwrap();
    assert_eq!(scene.side.run(&["check"]).code, 0);

    // Without --stanza every section is checked, the first failure ends it.
    let all = |engine: &pgbr_testkit::engine::Engine| {
        let mut run = user::command(engine.binary());
        run.arg(scene.side.conf.config_option()).arg("check");
        let outcome = process::run(&mut run, DEFAULT_LIMIT).unwrap();
        let checked: Vec<String> =
            outcome.stdout.lines().filter(|line| line.contains("check stanza")).map(str::to_owned).collect();
        (outcome.exit_code.unwrap(), checked)
    };
    scene.cluster.set_archive_command(&pgbr::engine().archive_command(&scene.side.conf)).unwrap();
    assert_eq!(all(&scene.side.engine), all(&stock::newest().engine));
    let text = std::fs::read_to_string(scene.side.conf.path()).unwrap();
    let section = text.split_once("[demo]\n").unwrap().1;
    user::write_file(scene.side.conf.path(), format!("{text}\n[later]\n{section}")).unwrap();
    let (code, checked) = all(&scene.side.engine);
    assert_eq!((code, checked.len()), (55, 2), "{checked:?}");
    assert_eq!((code, checked), all(&stock::newest().engine));
}

#[test]
fn a_standby_is_checked_beside_its_primary() {
    let mut scene = Scene::new();
    pgbr::engine().ok(&scene.side.conf, &["stanza-create"]).unwrap();
    let data = scene.dir.path().join("replica");
    let replica = scene.cluster.replica(&data, Options::default()).unwrap();
    let first = scene.side.conf.clone();
    for (option, value) in [
        ("pg2-path", data.display().to_string()),
        ("pg2-socket-path", replica.socket_dir().display().to_string()),
        ("pg2-port", replica.port().to_string()),
        ("pg2-user", "postgres".to_owned()),
    ] {
        scene.side.conf.local(option, &value).unwrap();
    }
    let (code, lines) = scene.agree("primary and standby", &["check"]);
    assert_eq!(code, 0);
    assert!(lines.iter().any(|line| line.contains("switch wal not performed")), "{lines:?}");
    scene.cluster.stop(Shutdown::Fast).unwrap();
    assert_eq!(scene.agree("standby alone", &["check"]).0, 27);
    scene.side.conf = first;
}
