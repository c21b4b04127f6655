//! The sidecar in what a restricted pod gives it: a root file system that is read-only, no temporary directory, no home, a
//! user without a name, and only the mounts that are declared.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pgbr_testkit::running::Running;
use pgbr_testkit::{pgbr, process, user};
use serde_json::json;

use crate::scene::{Pod, Primary, cluster, recover, recovering};

const LIMIT: Duration = Duration::from_secs(30);

/// Makes everything read-only but the folders among its arguments, which end with `--`, and becomes what follows, without a
/// single right. Nobody has a name there.
const SCRIPT: &str = r#"
set -e
mounts=$(cut -d' ' -f2 /proc/self/mounts)
mount --make-rprivate /
while [ "$1" != -- ]; do mount --bind "$1" "$1"; shift; done
shift
mount --bind /dev/null /etc/passwd
for mount in $mounts; do
    case $mount in
    /proc*|/sys*|/dev*) ;;
    *) mount -o remount,bind,ro "$mount" ;;
    esac
done
exec setpriv --reuid "$USER_ID" --regid "$GROUP_ID" --clear-groups --bounding-set=-all --no-new-privs "$@"
"#;

/// A command in such a place. Mounts of its own need root, which CI has.
fn sandboxed(owner: &Path, writable: &[&Path], program: &[&str]) -> Command {
    use std::os::unix::fs::MetadataExt;
    let owner = fs::metadata(owner).unwrap();
    let mut command = match user::is_root() {
        true => Command::new("unshare"),
        // As root of a user namespace, who is the caller outside.
        false => {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user"]);
            command
        }
    };
    let ids = if user::is_root() { (owner.uid(), owner.gid()) } else { (0, 0) };
    command.args(["--mount", "sh", "-c", SCRIPT, "sandbox"]).args(writable).arg("--").args(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("USER_ID", ids.0.to_string()).env("GROUP_ID", ids.1.to_string()).current_dir("/");
    command
}

fn start(pod: &mut Pod, writable: &[&Path]) {
    let program = user::reachable_copy(&pgbr::binary()).unwrap();
    let mut command = sandboxed(&pod.data, writable, &["env", "-u", "PATH", program.to_str().unwrap(), "instance"]);
    command.envs(pod.variables.iter().cloned());
    pod.sidecar = Some(Running::start(&mut command).unwrap());
    pod.wait_for_the_sidecar();
}

/// Archiving, a backup, a restore and a recovery with nothing but the declared mounts; then without one of them, which is
/// named.
#[test]
fn kg17_a_sidecar_needs_no_more_than_its_mounts() {
    let mut primary = Primary::start();
    let folder = primary.world.folder.path().to_owned();
    let copy = folder.join("volume");
    user::create_dir(&copy).unwrap();
    let of = |name: &str, part: &str| folder.join(name).join(part);
    let data = primary.pod.data.clone();
    let mounts = [of("demo-1", "plugins"), of("demo-1", "controller"), of("demo-1", "wal"), data.clone()];
    let mounts: Vec<&Path> = mounts.iter().map(std::path::PathBuf::as_path).collect();
    // The place is what it is meant to be.
    for (path, is_writable) in
        [("/tmp/x", false), ("/x", false), (of("demo-1", "controller/x").to_str().unwrap(), true)]
    {
        let touched = process::run(&mut sandboxed(&data, &mounts, &["touch", path]), LIMIT).unwrap();
        assert_eq!(touched.exit_code == Some(0), is_writable, "{path}: {}", touched.text());
        assert!(is_writable || touched.text().contains("Read-only file system"), "{}", touched.text());
    }
    primary.pod.sidecar.take().unwrap().kill();
    start(&mut primary.pod, &mounts);
    let demo = cluster("demo-1");
    primary.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").unwrap();
    primary.server.archive_current_segment(LIMIT).unwrap();
    let made = primary.pod.caller().backup(&demo, "first", &[("type", "full")]).unwrap();
    assert!(made.backup_id.ends_with('F'));
    primary.server.sql("INSERT INTO t VALUES (1001)").unwrap();
    let segment = primary.server.archive_current_segment(LIMIT).unwrap();
    primary.pod.caller().fetch(&demo, &segment, "RECOVERYXLOG", 0).unwrap();
    assert!(!primary.pod.log().contains("A volume is missing"), "{}", primary.pod.log());

    // A Job, whose volume is there and empty.
    let socket = folder.join("copy-run");
    user::create_dir(&socket).unwrap();
    let mut job = Pod::start(&primary.world, "copy-1-full-recovery", &copy.join("pgdata"), &socket);
    job.sidecar.take().unwrap().kill();
    let own = ["plugins", "controller", "wal"].map(|part| of("copy-1-full-recovery", part));
    let mut mounts: Vec<&Path> = own.iter().map(std::path::PathBuf::as_path).collect();
    // Without its volume it says so at once, by name.
    user::create_dir(&job.data).unwrap();
    start(&mut job, &mounts);
    let log = job.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("A volume is missing")).collect();
    assert!(told.len() == 1 && told[0].contains("PGDATA") && told[0].contains("Read-only"), "{told:?}");
    job.sidecar.take().unwrap().kill();
    fs::remove_dir(&job.data).unwrap();
    mounts.push(&copy);
    let definition = recovering(&json!({}));
    fs::create_dir(&job.data).unwrap();
    user::own(&job.data).unwrap();
    start(&mut job, &mounts);
    job.caller().restore_job(&definition, Some(true)).unwrap();
    let server = recover(&mut primary.bridge, &job, &definition, &[]);
    assert_eq!(server.value("SELECT count(*) FROM t").unwrap(), "1001");
}
