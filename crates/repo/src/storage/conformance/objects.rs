//! Writing and reading whole objects and ranges.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::storage::{
    ByteRange, Condition, Durability, EntryKind, ErrorClass, ObjectRead, ObjectVersion, StorageError, StorageExt,
};

use super::{BELOW_AN_OBJECT, Bench, Check, LIMIT_BYTES, ensure, ensure_eq, expect_class, pattern, text};

pub(super) const CHECKS: &[Check] = &[
    ("an_object_reads_back_as_it_was_put", |bench| Box::pin(reads_back(bench))),
    ("a_put_replaces_the_object", |bench| Box::pin(replaces(bench))),
    ("an_empty_object_is_an_object", |bench| Box::pin(empty(bench))),
    ("a_range_is_those_bytes", |bench| Box::pin(ranges(bench))),
    ("a_range_beyond_the_end_fails_for_good", |bench| Box::pin(beyond(bench))),
    ("what_is_not_there_is_missing", |bench| Box::pin(missing(bench))),
    ("a_pin_holds_the_version", |bench| Box::pin(pinned(bench))),
    ("any_name_is_taken_literally", |bench| Box::pin(odd_names(bench))),
    ("put_on_condition", |bench| Box::pin(conditions(bench))),
    ("one_of_many_writers_on_condition_wins", |bench| Box::pin(one_winner(bench))),
    ("writers_of_one_name_do_not_mix", |bench| Box::pin(no_mixture(bench))),
    ("a_reader_sees_one_version", |bench| Box::pin(one_version(bench))),
    ("a_limit_stops_a_large_object", |bench| Box::pin(limit(bench))),
    ("deferred_writes_can_be_read_and_flushed", |bench| Box::pin(deferred(bench))),
    ("links_and_directories_where_there_are_any", |bench| Box::pin(posix(bench))),
];

async fn reads_back(bench: &Bench) -> Result<(), String> {
    for length in [1, 100, 65_536, 300_001, 1_500_000] {
        let body = pattern(length);
        let path = bench.path("object");
        let put = bench.storage.write_all(&path, Bytes::from(body.clone())).await.map_err(text)?;
        bench.ensure_content("object", &body).await?;
        let info = bench.storage.info(&path).await.map_err(text)?;
        ensure_eq("size", &info.size_bytes, &(length as u64))?;
        ensure_eq("kind", &info.kind, &EntryKind::Object)?;
        ensure_eq("version of info and put", &info.version, &put.version)?;
        let opened = bench.storage.read(&path, ByteRange::ALL, None).await.map_err(text)?;
        ensure_eq("info of read", &opened.info, &info)?;
    }
    Ok(())
}

async fn replaces(bench: &Bench) -> Result<(), String> {
    bench.put("a/object", &pattern(5_000)).await?;
    bench.put("a/object", b"short").await?;
    bench.ensure_content("a/object", b"short").await?;
    ensure_eq("names", &bench.names("a", false).await?, &vec!["object".to_owned()])
}

async fn empty(bench: &Bench) -> Result<(), String> {
    bench.put("empty", b"").await?;
    bench.ensure_content("empty", b"").await?;
    ensure(bench.storage.exists(&bench.path("empty")).await.map_err(text)?, || "it does not exist".to_owned())
}

async fn ranges(bench: &Bench) -> Result<(), String> {
    let body = pattern(700_000);
    bench.put("object", &body).await?;
    let last = body.len() - 1;
    for (from, to) in [(0, 1), (0, body.len()), (1, 2), (last, body.len()), (262_143, 262_145), (100_000, 600_000)] {
        let bounded = ByteRange { offset: from as u64, length: Some((to - from) as u64) };
        let open = ByteRange { offset: from as u64, length: None };
        for (range, expected) in [(bounded, &body[from..to]), (open, &body[from..])] {
            let opened = bench.storage.read(&bench.path("object"), range, None).await.map_err(text)?;
            ensure_eq("size in a ranged read", &opened.info.size_bytes, &(body.len() as u64))?;
            let found = drain(opened).await.map_err(text)?;
            ensure(found == expected, || format!("other bytes in {range:?}"))?;
        }
    }
    Ok(())
}

async fn beyond(bench: &Bench) -> Result<(), String> {
    bench.put("object", &pattern(100)).await?;
    for range in [ByteRange { offset: 101, length: None }, ByteRange { offset: 90, length: Some(11) }] {
        let outcome = match bench.storage.read(&bench.path("object"), range, None).await {
            Ok(opened) => drain(opened).await,
            Err(error) => Err(error),
        };
        expect_class(&format!("{range:?} of 100 bytes"), outcome, ErrorClass::Permanent)?;
    }
    Ok(())
}

async fn missing(bench: &Bench) -> Result<(), String> {
    bench.put("object", b"bytes").await?;
    for name in ["other", "no/such/directory", BELOW_AN_OBJECT, "objec", "object2"] {
        if !bench.is_a_place(name) {
            continue;
        }
        let path = bench.path(name);
        expect_class(
            &format!("read of {name}"),
            bench.storage.read(&path, ByteRange::ALL, None).await,
            ErrorClass::Missing,
        )?;
        expect_class(&format!("info of {name}"), bench.storage.info(&path).await, ErrorClass::Missing)?;
        let read = bench.storage.read_all_optional(&path, LIMIT_BYTES).await.map_err(text)?;
        ensure(read.is_none(), || format!("{name} was read"))?;
        ensure(!bench.storage.exists(&path).await.map_err(text)?, || format!("{name} exists"))?;
    }
    Ok(())
}

async fn pinned(bench: &Bench) -> Result<(), String> {
    let path = bench.path("object");
    let first = bench.storage.write_all(&path, Bytes::from(pattern(1_000))).await.map_err(text)?;
    let Some(version) = first.version else { return Ok(()) };
    let opened = bench.storage.read(&path, ByteRange { offset: 10, length: Some(20) }, Some(&version)).await;
    let found = drain(opened.map_err(text)?).await.map_err(text)?;
    ensure(found == pattern(1_000)[10..30], || "other bytes with the right version".to_owned())?;
    // The same size, so that nothing but the version tells.
    let mut other = pattern(1_000);
    other.reverse();
    bench.put("object", &other).await?;
    let outcome = bench.storage.read(&path, ByteRange::ALL, Some(&version)).await;
    expect_class("read of a replaced version", outcome, ErrorClass::Conflict)
}

async fn odd_names(bench: &Bench) -> Result<(), String> {
    let mut names = [
        "with space",
        "plus+plus",
        "per%cent%41",
        "hash#1",
        "a&b=c?d",
        "quote'\"",
        "semi;colon:at@",
        "ünïcode-日本",
        "~tilde",
        "back\\slash",
        "*star",
        "<x>",
        ".hidden",
        "dots...",
        "a.pgbackrest.tmp",
        "comma,",
    ]
    .map(str::to_owned)
    .to_vec();
    for name in &names {
        bench.put(&format!("d/{name}"), name.as_bytes()).await.map_err(|error| format!("put of '{name}': {error}"))?;
    }
    names.sort();
    ensure_eq("listed names", &bench.names("d", false).await?, &names)?;
    for name in &names {
        bench.ensure_content(&format!("d/{name}"), name.as_bytes()).await?;
        bench.storage.remove(&bench.path(&format!("d/{name}"))).await.map_err(text)?;
    }
    ensure_eq("names after removal", &bench.names("d", true).await?, &Vec::new())
}

async fn conditions(bench: &Bench) -> Result<(), String> {
    if !bench.storage.capabilities().conditional_put {
        return Ok(());
    }
    let path = bench.path("object");
    let put = |body: &'static str, condition| bench.storage.put(&path, Bytes::from(body), condition, Durability::Now);
    let unknown = Condition::Version(put("0", Condition::Absent).await.map_err(text)?.version.ok_or("no version")?);
    expect_class("second put of an absent one", put("1", Condition::Absent).await, ErrorClass::Conflict)?;
    bench.ensure_content("object", b"0").await?;
    let second = put("2", unknown.clone()).await.map_err(text)?;
    bench.ensure_content("object", b"2").await?;
    expect_class("put on an old version", put("3", unknown).await, ErrorClass::Conflict)?;
    bench.ensure_content("object", b"2").await?;
    expect_class("put on a condition that never holds", put("3", Condition::Never).await, ErrorClass::Conflict)?;
    bench.ensure_content("object", b"2").await?;
    bench.storage.remove(&path).await.map_err(text)?;
    let gone = Condition::Version(second.version.unwrap_or(ObjectVersion(String::new())));
    expect_class("put on the version of a removed object", put("4", gone).await, ErrorClass::Conflict)?;
    bench.ensure_absent("object").await?;
    let supported = bench.storage.probe_conditional_put(&bench.path("probe")).await.map_err(text)?;
    ensure(supported, || "the probe does not find what the capabilities say".to_owned())?;
    bench.ensure_absent("probe").await
}

async fn one_winner(bench: &Bench) -> Result<(), String> {
    if !bench.storage.capabilities().conditional_put {
        return Ok(());
    }
    let path = bench.path("object");
    let bodies: Vec<_> = (0..8_u8).map(|writer| Bytes::from(vec![writer; 50_000])).collect();
    let put = |body: &Bytes| bench.storage.put(&path, body.clone(), Condition::Absent, Durability::Deferred);
    let outcomes = join_all(bodies.iter().map(put)).await;
    let won: Vec<_> = bodies.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).collect();
    ensure_eq("writers that won", &won.len(), &1)?;
    let lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    for error in lost {
        ensure_eq("class of a loser", &error.class(), &ErrorClass::Conflict)?;
    }
    let winner = won.first().map(|(body, _)| body.to_vec()).unwrap_or_default();
    bench.ensure_content("object", &winner).await
}

async fn no_mixture(bench: &Bench) -> Result<(), String> {
    let path = bench.path("object");
    let bodies: Vec<_> = (0..8_u8).map(|writer| Bytes::from(vec![writer; 400_000])).collect();
    let put = |body: &Bytes| bench.storage.put(&path, body.clone(), Condition::None, Durability::Deferred);
    for outcome in join_all(bodies.iter().map(put)).await {
        outcome.map_err(text)?;
    }
    let found = bench.content("object").await?;
    ensure(bodies.contains(&found), || "it is none of the objects that were put".to_owned())
}

async fn one_version(bench: &Bench) -> Result<(), String> {
    let (old, new) = (pattern(2_000_000), vec![7; 2_000_000]);
    bench.put("object", &old).await?;
    let opened = bench.storage.read(&bench.path("object"), ByteRange::ALL, None).await.map_err(text)?;
    bench.put("object", &new).await?;
    match drain(opened).await {
        Ok(found) => ensure(found == old || found == new, || "a mixture of two versions".to_owned()),
        Err(error) => ensure_eq("class", &error.class(), &ErrorClass::Conflict),
    }
}

async fn limit(bench: &Bench) -> Result<(), String> {
    bench.put("object", &pattern(1_000)).await?;
    let path = bench.path("object");
    ensure_eq("length at the limit", &bench.storage.read_all(&path, 1_000).await.map_err(text)?.len(), &1_000)?;
    expect_class("beyond the limit", bench.storage.read_all(&path, 999).await, ErrorClass::Permanent)
}

async fn deferred(bench: &Bench) -> Result<(), String> {
    let path = bench.path("x/y/object");
    let put = bench.storage.put(&path, Bytes::from_static(b"later"), Condition::None, Durability::Deferred);
    put.await.map_err(text)?;
    bench.ensure_content("x/y/object", b"later").await?;
    bench.storage.flush().await.map_err(text)?;
    bench.ensure_content("x/y/object", b"later").await
}

async fn posix(bench: &Bench) -> Result<(), String> {
    let Some(posix) = bench.storage.posix() else { return Ok(()) };
    let kind = async |name| Ok::<_, String>(bench.storage.info(&bench.path(name)).await.map_err(text)?.kind);
    posix.create_directory(&bench.path("a/b")).await.map_err(text)?;
    posix.create_directory(&bench.path("a/b")).await.map_err(text)?;
    ensure_eq("kind of a directory", &kind("a/b").await?, &EntryKind::Directory)?;
    ensure_eq("empty directories", &bench.names("", true).await?, &vec!["a/b".to_owned()])?;
    for target in ["a", "a/b"] {
        posix.symlink(&bench.path("latest"), target).await.map_err(text)?;
        ensure_eq("kind of a link", &kind("latest").await?, &EntryKind::Link(target.to_owned()))?;
    }
    bench.put("a/object", b"bytes").await?;
    for _ in 0..2 {
        posix.hard_link(&bench.path("a/object"), &bench.path("c/second")).await.map_err(text)?;
        bench.ensure_content("c/second", b"bytes").await?;
    }
    posix.sync_directory(&bench.path("a")).await.map_err(text)?;
    let names = ["a/b", "a/object", "c/second", "latest"].map(str::to_owned).to_vec();
    let mut found = bench.names("", true).await?;
    found.sort();
    ensure_eq("all names", &found, &names)
}

async fn drain(mut opened: ObjectRead) -> Result<Vec<u8>, StorageError> {
    let mut all = Vec::new();
    while let Some(piece) = opened.body.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}
