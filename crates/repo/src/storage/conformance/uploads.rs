//! Objects written in parts.

use std::sync::Arc;

use bytes::Bytes;

use crate::storage::{Condition, Durability, ErrorClass, PartTag, StorageExt, UploadId, UploadPart, Uploader};

use super::{Bench, Check, LIMIT_BYTES, ensure, ensure_eq, expect_class, pattern, text};

pub(super) const CHECKS: &[Check] = &[
    ("an_upload_is_visible_when_it_is_complete", |bench| Box::pin(complete(bench))),
    ("an_upload_replaces_the_object", |bench| Box::pin(replaces(bench))),
    ("a_part_may_be_sent_again", |bench| Box::pin(again(bench))),
    ("an_aborted_upload_leaves_nothing", |bench| Box::pin(aborted(bench))),
    ("an_upload_on_condition", |bench| Box::pin(condition(bench))),
    ("two_uploads_of_one_name_do_not_mix", |bench| Box::pin(two(bench))),
    ("stale_uploads_are_found", |bench| Box::pin(stale(bench))),
    ("an_uploader_takes_any_size", |bench| Box::pin(uploader(bench))),
    ("an_uploader_given_up_leaves_nothing", |bench| Box::pin(given_up(bench))),
];

/// The bytes of part `number`.
fn part_bytes(bench: &Bench, number: u32) -> usize {
    let capabilities = bench.storage.capabilities();
    (capabilities.part_size_bytes)(number, capabilities.part_base_bytes)
}

/// Sends `body` as the parts of an upload.
async fn send(bench: &Bench, name: &str, upload: &UploadId, body: &[u8]) -> Result<Vec<PartTag>, String> {
    let (mut tags, mut sent) = (Vec::new(), 0);
    for number in 1.. {
        let end = body.len().min(sent + part_bytes(bench, number));
        let part = UploadPart { number, offset: sent as u64, body: Bytes::copy_from_slice(&body[sent..end]) };
        tags.push(bench.storage.upload_part(&bench.path(name), upload, part).await.map_err(text)?);
        sent = end;
        if sent == body.len() {
            break;
        }
    }
    Ok(tags)
}

async fn create(bench: &Bench, name: &str) -> Result<UploadId, String> {
    bench.storage.upload_create(&bench.path(name), Durability::Now).await.map_err(text)
}

fn large(bench: &Bench) -> Vec<u8> {
    pattern(part_bytes(bench, 1) + part_bytes(bench, 2) + 12_345)
}

async fn complete(bench: &Bench) -> Result<(), String> {
    let body = large(bench);
    let path = bench.path("object");
    let upload = create(bench, "object").await?;
    bench.ensure_absent("object").await?;
    let tags = send(bench, "object", &upload, &body).await?;
    ensure_eq("parts", &tags.len(), &3)?;
    bench.ensure_absent("object").await?;
    ensure_eq("entries before it is complete", &bench.names("", true).await?, &Vec::new())?;
    let info = bench.storage.upload_complete(&path, &upload, &tags, Condition::None).await.map_err(text)?;
    ensure_eq("size", &info.size_bytes, &(body.len() as u64))?;
    ensure_eq("info afterwards", &bench.storage.info(&path).await.map_err(text)?.version, &info.version)?;
    bench.ensure_content("object", &body).await?;
    ensure_eq("names", &bench.names("", true).await?, &vec!["object".to_owned()])
}

async fn replaces(bench: &Bench) -> Result<(), String> {
    bench.put("object", b"old").await?;
    let body = large(bench);
    let upload = create(bench, "object").await?;
    let tags = send(bench, "object", &upload, &body).await?;
    bench.ensure_content("object", b"old").await?;
    let path = bench.path("object");
    bench.storage.upload_complete(&path, &upload, &tags, Condition::None).await.map_err(text)?;
    bench.ensure_content("object", &body).await
}

async fn again(bench: &Bench) -> Result<(), String> {
    let body = large(bench);
    let upload = create(bench, "object").await?;
    let path = bench.path("object");
    let wrong = UploadPart { number: 1, offset: 0, body: Bytes::from(vec![0; part_bytes(bench, 1)]) };
    bench.storage.upload_part(&path, &upload, wrong).await.map_err(text)?;
    let tags = send(bench, "object", &upload, &body).await?;
    bench.storage.upload_complete(&path, &upload, &tags, Condition::None).await.map_err(text)?;
    bench.ensure_content("object", &body).await
}

async fn aborted(bench: &Bench) -> Result<(), String> {
    let path = bench.path("object");
    let upload = create(bench, "object").await?;
    let tags = send(bench, "object", &upload, &large(bench)).await?;
    bench.storage.upload_abort(&path, &upload).await.map_err(text)?;
    bench.ensure_absent("object").await?;
    let outcome = bench.storage.upload_complete(&path, &upload, &tags, Condition::None).await;
    expect_class("completing an aborted upload", outcome, ErrorClass::Missing)?;
    bench.ensure_absent("object").await?;
    bench.storage.upload_abort(&path, &upload).await.map_err(text)
}

async fn condition(bench: &Bench) -> Result<(), String> {
    if !bench.storage.capabilities().conditional_put {
        return Ok(());
    }
    let path = bench.path("object");
    bench.put("object", b"first").await?;
    let upload = create(bench, "object").await?;
    let tags = send(bench, "object", &upload, &large(bench)).await?;
    let outcome = bench.storage.upload_complete(&path, &upload, &tags, Condition::Absent).await;
    expect_class("completing over an object", outcome, ErrorClass::Conflict)?;
    bench.ensure_content("object", b"first").await?;
    bench.storage.upload_abort(&path, &upload).await.map_err(text)
}

async fn two(bench: &Bench) -> Result<(), String> {
    let path = bench.path("object");
    let (one, mut other) = (large(bench), large(bench));
    other.reverse();
    let (first, second) = (create(bench, "object").await?, create(bench, "object").await?);
    ensure(first != second, || "two uploads have one id".to_owned())?;
    let first_tags = send(bench, "object", &first, &one).await?;
    let second_tags = send(bench, "object", &second, &other).await?;
    bench.storage.upload_complete(&path, &second, &second_tags, Condition::None).await.map_err(text)?;
    bench.ensure_content("object", &other).await?;
    bench.storage.upload_complete(&path, &first, &first_tags, Condition::None).await.map_err(text)?;
    bench.ensure_content("object", &one).await
}

/// The year 2100.
const FAR_FUTURE_S: i64 = 4_102_444_800;

async fn stale(bench: &Bench) -> Result<(), String> {
    let path = bench.path("d/object");
    let upload = create(bench, "d/object").await?;
    let tags = send(bench, "d/object", &upload, b"bytes").await?;
    let (here, elsewhere) = (bench.directory(), bench.path("e"));
    let remove = async |directory, before| bench.storage.remove_stale_uploads(directory, before).await.map_err(text);
    ensure_eq("uploads begun before 1970", &remove(&here, 0).await?, &0)?;
    ensure_eq("uploads elsewhere", &remove(&elsewhere, FAR_FUTURE_S).await?, &0)?;
    ensure_eq("uploads begun before 2100", &remove(&here, FAR_FUTURE_S).await?, &1)?;
    let outcome = bench.storage.upload_complete(&path, &upload, &tags, Condition::None).await;
    expect_class("completing a removed upload", outcome, ErrorClass::Missing)?;
    ensure_eq("uploads left", &remove(&here, FAR_FUTURE_S).await?, &0)
}

fn new_uploader(bench: &Bench, name: &str) -> Uploader {
    Uploader::new(Arc::clone(&bench.storage), bench.path(name), Condition::None, Durability::Deferred)
}

async fn uploader(bench: &Bench) -> Result<(), String> {
    let (first, second) = (part_bytes(bench, 1), part_bytes(bench, 2));
    for length in [0, 1, first - 1, first, first + 1, first + second, first + second + 1] {
        let body = pattern(length);
        let mut uploader = new_uploader(bench, "object");
        for piece in body.chunks(300_001) {
            uploader.write(piece).await.map_err(text)?;
        }
        ensure_eq("bytes written", &uploader.written_bytes(), &(length as u64))?;
        let info = uploader.finish().await.map_err(text)?;
        ensure_eq("size", &info.size_bytes, &(length as u64))?;
        bench.ensure_content("object", &body).await?;
    }
    Ok(())
}

async fn given_up(bench: &Bench) -> Result<(), String> {
    let body = large(bench);
    let mut uploader = new_uploader(bench, "aborted");
    uploader.write(&body).await.map_err(text)?;
    uploader.abort().await.map_err(text)?;
    bench.ensure_absent("aborted").await?;
    let left = bench.storage.remove_stale_uploads(&bench.directory(), FAR_FUTURE_S).await.map_err(text)?;
    ensure_eq("uploads left after an abort", &left, &0)?;
    let mut uploader = new_uploader(bench, "dropped");
    uploader.write(&body).await.map_err(text)?;
    drop(uploader);
    bench.ensure_absent("dropped").await?;
    let read = bench.storage.read_all_optional(&bench.path("dropped"), LIMIT_BYTES).await.map_err(text)?;
    ensure(read.is_none(), || "a dropped upload can be read".to_owned())
}
