//! Decides whether an answer comes from an S3 service at all, before the SDK believes it.
//!
//! Proxies and login pages answer 200 with HTML, services answer 200 with `<Error>`, documents are cut (faults.md OS02,
//! OS03, OS15, NP01). The SDK reads what it can find in such a body, so half a listing would be a short listing.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};

/// Most bytes of an XML answer: a page of 1000 keys of 1024 bytes, three times as long when URL encoded, with room.
pub(super) const XML_SIZE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most bytes kept of an error answer.
pub(super) const ERROR_SIZE_BYTES_MAX: usize = 64 * 1024;

/// The answer is not one of an S3 service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadAnswer {
    /// What is wrong.
    pub(super) reason: &'static str,
    /// The beginning of the body as it came: to be escaped and shortened before it is shown.
    pub(super) excerpt: String,
}

/// The request, as far as it tells what the answer must be.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// Whether the body of a good answer is an object's bytes.
    pub(super) object: bool,
    /// Whether a good answer may have no body although others have XML.
    pub(super) quiet: bool,
}

impl Asked {
    pub(super) fn new(method: &Method, query: Option<&str>) -> Self {
        let mut terms = query.unwrap_or("").split('&');
        Self {
            method: method.clone(),
            object: *method == Method::GET && terms.clone().any(|term| term == "x-id=GetObject"),
            quiet: *method == Method::POST && terms.any(|term| term == "delete" || term == "delete="),
        }
    }
}

/// Judges status and headers: of object answers, which are not read here, and of answers that have no body.
pub(super) fn judge_head(asked: &Asked, status: StatusCode, headers: &HeaderMap) -> Result<(), BadAnswer> {
    let bad = |reason| Err(BadAnswer { reason, excerpt: String::new() });
    let about_object = asked.object || asked.method == Method::HEAD;
    if !about_object {
        return Ok(());
    }
    // A page of a proxy: S3 services answer HTML only for objects that are HTML, and then sign with their request id.
    let html = headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let signed = headers.contains_key("x-amz-request-id") || headers.contains_key("x-amz-id-2");
    let judged = status.is_success() || asked.method == Method::HEAD;
    if judged && html && !signed {
        return bad("the answer is an HTML page, not one of an S3 service");
    }
    let named = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    if status.is_success() && !named {
        return bad("the answer has neither ETag nor Last-Modified, it is not one of an S3 service");
    }
    Ok(())
}

/// Judges a collected body; returns status and body for the SDK. An `<Error>` within a 200 becomes a 500, so that its
/// code decides what it is.
pub(super) fn judge_body(
    asked: &Asked,
    status: StatusCode,
    body: Bytes,
    complete: bool,
) -> Result<(StatusCode, Bytes), BadAnswer> {
    if !status.is_success() {
        return Ok((status, body));
    }
    let bad = |reason| Err(BadAnswer { reason, excerpt: excerpt(&body) });
    if !complete {
        return bad("the answer is too long");
    }
    // Services keep slow answers alive with blanks before the document (faults.md OS02).
    let trimmed = body.slice_ref(body.trim_ascii());
    let must_be_xml = matches!(asked.method, Method::GET | Method::POST);
    if trimmed.is_empty() {
        return match (must_be_xml, asked.quiet) {
            (false, _) => Ok((status, trimmed)),
            (true, true) => Ok((status, Bytes::from_static(b"<DeleteResult/>"))),
            (true, false) => bad("the answer is empty"),
        };
    }
    match root_element(&trimmed) {
        Some(root) if root.eq_ignore_ascii_case("html") => bad("the answer is an HTML page"),
        Some("Error") => Ok((StatusCode::INTERNAL_SERVER_ERROR, trimmed)),
        Some(root) if must_be_xml && !closes(&trimmed, root) => bad("the answer is an XML document cut short"),
        None if must_be_xml => bad("the answer is not an XML document"),
        _ => Ok((status, trimmed)),
    }
}

/// The name of the root element of a document that begins without blanks.
fn root_element(body: &[u8]) -> Option<&str> {
    let mut rest = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    loop {
        let skipped = if rest.starts_with(b"<?") {
            after(rest, b"?>")
        } else if rest.starts_with(b"<!--") {
            after(rest, b"-->")
        } else if rest.starts_with(b"<!") {
            after(rest, b">")
        } else {
            break;
        };
        rest = skipped?.trim_ascii_start();
    }
    let name = rest.strip_prefix(b"<")?;
    let end = name.iter().position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))?;
    let name = std::str::from_utf8(name.get(..end)?).ok()?;
    (!name.is_empty() && name.len() <= 100).then_some(name)
}

fn after<'a>(text: &'a [u8], end: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memmem::find(text, end)?;
    text.get(at + end.len()..)
}

/// Whether the document ends with the end of its root element.
fn closes(body: &[u8], root: &str) -> bool {
    let Some(inner) = body.trim_ascii_end().strip_suffix(b">") else { return false };
    let inner = inner.trim_ascii_end();
    if inner.strip_suffix(root.as_bytes()).is_some_and(|before| before.ends_with(b"</")) {
        return true;
    }
    // A root element without content: its tag is the last one.
    inner.ends_with(b"/")
        && memchr::memmem::rfind(inner, b"<").and_then(|at| inner.get(at + 1..)).is_some_and(|tag| {
            tag.strip_prefix(root.as_bytes()).is_some_and(|rest| matches!(rest.first(), Some(b' ' | b'/')))
        })
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..8192).unwrap_or(body)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &Method, query: &str) -> Asked {
        Asked::new(method, Some(query))
    }

    fn judge(asked: &Asked, body: &'static [u8]) -> Result<(StatusCode, Bytes), BadAnswer> {
        judge_body(asked, StatusCode::OK, Bytes::from_static(body), true)
    }

    #[test]
    fn os15_html_and_half_documents_are_no_listing() {
        let list = asked(&Method::GET, "list-type=2&prefix=a");
        for bad in [
            &b"<html><body>please log in</body></html>"[..],
            b"<!DOCTYPE html>\n<HTML></HTML>",
            b"{}",
            b"",
            b"   ",
            b"<ListBucketResult><Contents><Key>a</Key></Contents>",
            b"<ListBucketResult><Contents/>",
            b"<?xml version='1.0'",
        ] {
            assert!(judge(&list, bad).is_err(), "{} was accepted", String::from_utf8_lossy(bad));
        }
        for good in [
            &b"<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\"><A/></ListBucketResult>\n"[..],
            b"\xef\xbb\xbf<s3:ListBucketResult></s3:ListBucketResult >",
            b"<!-- a --><ListBucketResult/>",
        ] {
            assert!(judge(&list, good).is_ok(), "{} was refused", String::from_utf8_lossy(good));
        }
    }

    #[test]
    fn os02_an_error_within_200_is_an_error() {
        let complete = asked(&Method::POST, "x-id=CompleteMultipartUpload&uploadId=1");
        let (status, body) =
            judge(&complete, b"   \n<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>").unwrap();
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body.starts_with(b"<?xml"));
        assert!(judge(&complete, b"  ").is_err(), "an empty completion was believed");
    }

    #[test]
    fn a_quiet_delete_may_have_no_body() {
        let (_, body) = judge(&asked(&Method::POST, "delete=&x-id=DeleteObjects"), b"").unwrap();
        assert_eq!(&body[..], b"<DeleteResult/>");
        assert!(judge(&asked(&Method::POST, "uploads="), b"").is_err());
        assert!(judge(&asked(&Method::PUT, "x-id=PutObject"), b"").is_ok());
    }

    #[test]
    fn np01_a_page_is_no_object_and_no_absence() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "text/html; charset=utf-8".parse().unwrap());
        headers.insert(header::ETAG, "\"a\"".parse().unwrap());
        let get = asked(&Method::GET, "x-id=GetObject");
        let head = asked(&Method::HEAD, "");
        assert!(judge_head(&get, StatusCode::OK, &headers).is_err());
        assert!(judge_head(&head, StatusCode::NOT_FOUND, &headers).is_err());
        headers.insert("x-amz-request-id", "1".parse().unwrap());
        assert!(judge_head(&get, StatusCode::OK, &headers).is_ok());
        assert!(judge_head(&get, StatusCode::OK, &HeaderMap::new()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(body: Vec<u8>) {
            let body = Bytes::from(body);
            for method in [Method::GET, Method::PUT, Method::POST] {
                let _answer = judge_body(&asked(&method, ""), StatusCode::OK, body.clone(), true);
            }
        }

        #[test]
        fn a_document_cut_anywhere_is_refused(cut in 1_usize..60) {
            let whole = b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>";
            let body = Bytes::copy_from_slice(&whole[..cut]);
            proptest::prop_assert!(judge_body(&asked(&Method::GET, "list-type=2"), StatusCode::OK, body, true).is_err());
        }
    }
}
