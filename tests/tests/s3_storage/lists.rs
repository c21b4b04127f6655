//! Scripted answers to listings and removals.

use pgbr_repo::storage::{ErrorClass, ListOptions, PageToken, Storage, StorageError};
use pgbr_testkit::s3::WireAnswer;

use crate::{assert_clean, path, scripted};

const HEAD: &str =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";

fn listing(inside: &str) -> WireAnswer {
    WireAnswer::http(200, &[("content-type", "application/xml")], format!("{HEAD}{inside}</ListBucketResult>"))
}

fn object(key: &str) -> String {
    format!("<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-01-02T03:04:05.678Z</LastModified></Contents>")
}

async fn names(storage: &impl Storage) -> Result<Vec<String>, StorageError> {
    let options = ListOptions { recurse: true, name_prefix: None };
    let mut names = Vec::new();
    let mut page = None;
    loop {
        let got = storage.list_page(&path("archive"), &options, page).await?;
        names.extend(got.entries.into_iter().map(|entry| entry.name));
        page = match got.next {
            None => return Ok(names),
            next => next,
        };
    }
}

#[tokio::test]
async fn os14_pages_of_one_key_and_empty_pages_give_the_true_set() {
    let (server, storage) = scripted(|request| {
        let token = request.target.split_once("continuation-token=t").map(|(_, rest)| rest);
        let number: u32 = token.and_then(|rest| rest.split('&').next()?.parse().ok()).unwrap_or(0);
        let key = if number.is_multiple_of(3) { String::new() } else { object(&format!("repo/archive/f{number}")) };
        match number {
            30 => listing(&key),
            _ => listing(&format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>t{}</NextContinuationToken>{key}",
                number + 1
            )),
        }
    });
    let expected: Vec<_> = (0..30).filter(|number| number % 3 != 0).map(|number| format!("f{number}")).collect();
    assert_eq!(names(&storage).await.unwrap(), expected);
    assert_eq!(server.requests().len(), 31);
}

#[tokio::test]
async fn os14_a_listing_that_leads_nowhere_is_an_error() {
    for inside in [
        "<IsTruncated>true</IsTruncated>".to_owned(),
        "<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>".to_owned(),
    ] {
        let (_server, storage) = scripted(move |_| listing(&inside));
        let error = names(&storage).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    }
}

#[tokio::test]
async fn os14_odd_keys_come_through() {
    for (raw, encoded, expected) in [("a+b%25&amp;é&lt;", false, "a+b%25&é<"), ("a+b%2B%C3%A9", true, "a b+é")] {
        let encoding = if encoded { "<EncodingType>url</EncodingType>" } else { "" };
        let inside = format!("{encoding}{}", object(&format!("repo/archive/{raw}")));
        let (_server, storage) = scripted(move |_| listing(&inside));
        assert_eq!(names(&storage).await.unwrap(), [expected]);
    }
}

#[tokio::test]
async fn os15_pages_that_are_no_listing_are_not_empty_listings() {
    let half = format!("{HEAD}<Name>bucket</Name>{}", object("repo/archive/a"));
    let whole = format!("{half}</ListBucketResult>");
    let mut bodies: Vec<String> = vec![
        "<!DOCTYPE html><html><body>please log in</body></html>".to_owned(),
        "<html/>".to_owned(),
        String::new(),
        "not found".to_owned(),
        "<Other></Other>".to_owned(),
        format!("{HEAD}<Contents><Key>x</Key></Contents></ListBucketResult>"),
    ];
    bodies.extend(
        (1..whole.len()).filter(|cut| whole.is_char_boundary(*cut)).map(|cut| whole[..cut].to_owned()).step_by(7),
    );
    for body in bodies {
        let shown = body.clone();
        let (_server, storage) = scripted(move |_| WireAnswer::http(200, &[], &body));
        let error = names(&storage).await.expect_err(&shown);
        assert_eq!(error.class(), ErrorClass::Transient, "{shown}: {error}");
        assert_clean(&error);
    }
}

#[tokio::test]
async fn os17_a_denied_listing_is_not_empty_and_names_the_reason() {
    let (_server, storage) = scripted(|_| WireAnswer::error(403, "AccessDenied"));
    let error = names(&storage).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied);
    assert!(error.to_string().contains("list 'archive'") && error.to_string().contains("AccessDenied"), "{error}");
    let (_server, storage) = scripted(|_| WireAnswer::error(403, "AccessDenied"));
    let error = storage.remove(&path("a")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied);
    assert!(error.to_string().contains("remove 'a'"), "{error}");
}

#[tokio::test]
async fn hi13_sec10_hostile_listings_are_refused() {
    let entities = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>";
    for (name, body) in [
        ("outside", format!("{HEAD}{}</ListBucketResult>", object("other/archive/a"))),
        ("climbing", format!("{HEAD}{}</ListBucketResult>", object("repo/archive/../../a"))),
        ("control", format!("{HEAD}{}</ListBucketResult>", object("repo/archive/a&#10;b"))),
        ("entities", format!("{entities}<ListBucketResult>{}</ListBucketResult>", object("repo/archive/&b;"))),
        (
            "deep",
            format!("{HEAD}{}{}</ListBucketResult>", "<a>".repeat(100_000), "</a>".repeat(100_000)) + &object("x"),
        ),
        ("huge", format!("{HEAD}{}</ListBucketResult>", " ".repeat(20 * 1024 * 1024))),
        ("negative", format!("{HEAD}<Contents><Key>repo/archive/a</Key><Size>-1</Size></Contents></ListBucketResult>")),
    ] {
        let (_server, storage) = scripted(move |_| WireAnswer::http(200, &[], &body));
        let error = names(&storage).await.expect_err(name);
        assert_clean(&error);
    }
}

fn delete_result(inside: &str) -> WireAnswer {
    WireAnswer::http(200, &[], format!("<DeleteResult>{inside}</DeleteResult>"))
}

#[tokio::test]
async fn os18_keys_that_a_batch_could_not_remove_are_tried_alone() {
    let (server, storage) = scripted(|request| match request.method.as_str() {
        "POST" => delete_result(
            "<Error><Key>repo/f1</Key><Code>InternalError</Code></Error>\
             <Error><Key>repo/f2</Key><Code>AccessDenied</Code></Error>\
             <Error><Key>repo/f3</Key><Code>NoSuchKey</Code></Error>",
        ),
        _ if request.target.contains("f2") => WireAnswer::error(403, "AccessDenied"),
        _ => WireAnswer::http(204, &[], b""),
    });
    let paths: Vec<_> = (0..10).map(|number| path(&format!("f{number}"))).collect();
    let left = storage.remove_many(&paths).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].location(), left[0].class()), ("f2", ErrorClass::Denied));
    let singles = server.requests().iter().filter(|request| request.method == "DELETE").count();
    assert_eq!(singles, 2);
}

#[tokio::test]
async fn os18_batches_have_a_thousand_keys() {
    let (server, storage) = scripted(|_| WireAnswer::http(200, &[], b""));
    let paths: Vec<_> = (0..2500).map(|number| path(&format!("f{number}"))).collect();
    assert!(storage.remove_many(&paths).await.unwrap().is_empty());
    let keys: Vec<_> = server
        .requests()
        .iter()
        .map(|request| String::from_utf8_lossy(&request.body).matches("<Key>").count())
        .collect();
    assert_eq!(keys, [1000, 1000, 500]);
}

#[tokio::test]
async fn os19_removal_works_with_stores_that_want_or_refuse_checksums() {
    let (server, storage) = scripted(|request| {
        let newer =
            request.headers.iter().any(|(name, _)| name.starts_with("x-amz-checksum") || name == "x-amz-trailer");
        match (request.header("content-md5"), newer) {
            (Some(_), false) => delete_result(""),
            (None, _) => WireAnswer::error(400, "MissingContentMD5"),
            (_, true) => WireAnswer::error(400, "InvalidArgument"),
        }
    });
    assert!(storage.remove_many(&[path("a"), path("b")]).await.unwrap().is_empty());
    assert!(server.requests()[0].header("authorization").unwrap().contains("content-md5"), "the digest is not signed");
}

#[tokio::test]
async fn os19_a_store_without_batches_is_asked_key_by_key() {
    let (server, storage) = scripted(|request| match request.method.as_str() {
        "POST" => WireAnswer::error(501, "NotImplemented"),
        _ => WireAnswer::http(204, &[], b""),
    });
    for _ in 0..2 {
        assert!(storage.remove_many(&[path("a"), path("b")]).await.unwrap().is_empty());
    }
    let methods: Vec<_> = server.requests().iter().map(|request| request.method.clone()).collect();
    assert_eq!(methods, ["POST", "DELETE", "DELETE", "DELETE", "DELETE"]);
}

#[tokio::test]
async fn a_token_is_sent_as_it_came() {
    let (server, storage) = scripted(|_| listing(""));
    let token = PageToken("1/+=&".to_owned());
    storage.list_page(&path("archive"), &ListOptions::default(), Some(token)).await.unwrap();
    assert!(
        server.requests()[0].target.contains("continuation-token=1%2F%2B%3D%26"),
        "{}",
        server.requests()[0].target
    );
}
