//! A sidecar with an administrator's limit asks no store that is beyond it, whoever names it.

use pgbr_testkit::s3::S3Operation;
use pgbr_testkit::user;
use serde_json::json;
use tonic::Code;

use crate::scene::{Pod, World, cluster, recovering};

#[test]
fn kg07_a_sidecar_asks_no_store_beyond_the_limit() {
    let world = World::new();
    let data = world.folder.path().join("data");
    user::create_dir(&data).unwrap();
    let mut pod = Pod::start(&world, "demo-1", &data, &data);
    let demo = cluster("demo-1");
    use S3Operation::{DeleteObjects, GetObject, HeadObject, ListObjects, PutObject};
    let asked = || -> u64 {
        let all = [GetObject, HeadObject, PutObject, ListObjects, DeleteObjects];
        all.into_iter().map(|operation| world.bucket.server().count(operation)).sum()
    };
    let before = asked();
    let refused = |pod: &Pod| {
        let caller = pod.caller();
        [
            caller.archive(&demo, "000000010000000000000001", None).unwrap_err(),
            caller.fetch(&demo, "000000010000000000000001", "RECOVERYXLOG", 0).unwrap_err(),
            caller.backup(&demo, "b", &[]).unwrap_err(),
            caller.restore_job(&recovering(&json!({})), None).unwrap_err(),
        ]
    };
    // Another prefix of the same bucket; a second repository that a variable adds.
    let server = format!("localhost:{}", world.bucket.server().port());
    for (rule, variables) in [
        ("bucket=backups path=/mine".to_owned(), vec![]),
        ("endpoint=s3.example".to_owned(), vec![]),
        (
            format!("bucket=backups endpoint={server} path=/repo"),
            vec![
                ("PGBACKREST_REPO2_TYPE", "posix".to_owned()),
                ("PGBACKREST_REPO2_PATH", world.folder.path().join("planted").display().to_string()),
            ],
        ),
        (
            format!("bucket=backups endpoint={server} path=/repo"),
            vec![("PGBACKREST_REPO1_STORAGE_HOST", "another.example".to_owned())],
        ),
    ] {
        pod.arguments = vec![format!("--repository-limit=apps; {rule}")];
        let kept = pod.variables.len();
        pod.variables.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        pod.kill_sidecar();
        for status in refused(&pod) {
            assert_eq!(status.code(), Code::PermissionDenied, "{rule}: {status:?}");
            assert!(status.message().contains("limit 'apps'"), "{status:?}");
        }
        assert!(world.objects("").is_empty(), "{rule}");
        pod.variables.truncate(kept);
    }
    assert_eq!(asked(), before);
    // Within the limit the store is asked.
    pod.arguments = vec![format!("--repository-limit=apps; bucket=backups endpoint={server} path=/repo")];
    pod.kill_sidecar();
    let status = pod.caller().restore_job(&recovering(&json!({})), None).unwrap_err();
    assert_ne!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(asked() > before);
}
