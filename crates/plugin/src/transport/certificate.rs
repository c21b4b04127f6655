//! What a pinned certificate says about itself: from when to when it is valid, and for what.
//!
//! rustls judges chains; a certificate that is trusted as it is needs none, and a self-signed one that calls itself an
//! authority (as `openssl req -x509` makes them) would be refused as the end of a chain. So the few fields that matter are
//! read here (RFC 5280 §4.1). The bytes come from a file of ours, and are treated as anybody's.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// `2.5.29.37`, extended key usage.
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// `1.3.6.1.5.5.7.3.2`, client authentication.
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// `2.5.29.37.0`, any use.
const ANY_USE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, the version.
const VERSION: u8 = 0xa0;
/// `[3]`, the extensions.
const EXTENSIONS: u8 = 0xa3;

/// What a certificate allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Seconds since 1970 of its first moment.
    pub(super) not_before_s: i64,
    /// Seconds since 1970 of its last moment.
    pub(super) not_after_s: i64,
    /// Whether a client may show it: its uses name that, or it names none.
    pub(super) client: bool,
}

impl Allowance {
    /// Reads a certificate; nothing when it is none.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let mut whole = Der(der);
        let mut certificate = whole.sequence()?;
        let mut body = certificate.sequence()?;
        whole.end()?;
        body.optional(VERSION)?;
        body.take(INTEGER)?;
        // Signature algorithm and issuer.
        body.take(SEQUENCE)?;
        body.take(SEQUENCE)?;
        let mut validity = body.sequence()?;
        let (not_before_s, not_after_s) = (validity.time()?, validity.time()?);
        // Subject and public key.
        body.take(SEQUENCE)?;
        body.take(SEQUENCE)?;
        let mut client = true;
        while let Some((tag, content)) = body.next()? {
            if tag == EXTENSIONS {
                client = allows_client(content)?;
            }
        }
        Some(Self { not_before_s, not_after_s, client })
    }
}

/// Whether the extensions allow a client; they do when they say nothing about uses.
fn allows_client(extensions: &[u8]) -> Option<bool> {
    let mut extensions = Der(extensions).sequence()?;
    while !extensions.0.is_empty() {
        let mut extension = extensions.sequence()?;
        if extension.take(OBJECT_ID)? != EXTENDED_KEY_USAGE {
            continue;
        }
        extension.optional(BOOLEAN)?;
        let mut uses = Der(extension.take(OCTETS)?).sequence()?;
        while !uses.0.is_empty() {
            if [CLIENT_AUTH, ANY_USE].contains(&uses.take(OBJECT_ID)?) {
                return Some(true);
            }
        }
        return Some(false);
    }
    Some(true)
}

/// A cursor over DER; what is left of it.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element, if there is one.
    #[expect(clippy::option_option, reason = "the outer one is a mistake in the bytes, the inner one their end")]
    fn next(&mut self) -> Option<Option<(u8, &'a [u8])>> {
        let Some((&tag, rest)) = self.0.split_first() else { return Some(None) };
        if tag & 0x1f == 0x1f {
            // A tag of several bytes: no certificate has one where this looks.
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // 0x80, a length that comes later, is not DER.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Some((tag, content)))
    }

    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()?.and_then(|(found, content)| (found == tag).then_some(content))
    }

    fn sequence(&mut self) -> Option<Self> {
        self.take(SEQUENCE).map(Self)
    }

    /// Steps over an element if it is the next.
    fn optional(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) { self.take(tag).map(|_| ()) } else { Some(()) }
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` from then on (RFC 5280 §4.1.2.5).
    fn time(&mut self) -> Option<i64> {
        let (tag, content) = self.next()??;
        let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = text.split_at_checked(2)?;
                let year: i16 = year.parse().ok()?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            GENERALIZED_TIME => {
                let (year, rest) = text.split_at_checked(4)?;
                (year.parse().ok()?, rest)
            }
            _ => return None,
        };
        if rest.len() != 10 {
            return None;
        }
        let number = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
        let time = DateTime::new(year, number(0)?, number(2)?, number(4)?, number(6)?, number(8)?, 0).ok()?;
        Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        let mut bytes = vec![tag, 0x82];
        bytes.extend(length.to_be_bytes());
        bytes.extend(content);
        bytes
    }

    fn certificate(times: &[Vec<u8>], uses: Option<&[&[u8]]>) -> Vec<u8> {
        let sequence = |parts: &[Vec<u8>]| element(SEQUENCE, &parts.concat());
        let mut body = vec![
            element(VERSION, &element(INTEGER, &[2])),
            element(INTEGER, &[1]),
            sequence(&[]),
            sequence(&[]),
            sequence(times),
            sequence(&[]),
            sequence(&[]),
        ];
        if let Some(uses) = uses {
            let uses: Vec<_> = uses.iter().map(|id| element(OBJECT_ID, id)).collect();
            let other = sequence(&[element(OBJECT_ID, &[0x55, 0x1d, 0x13]), element(OCTETS, &[])]);
            let usage = sequence(&[
                element(OBJECT_ID, EXTENDED_KEY_USAGE),
                element(BOOLEAN, &[0xff]),
                element(OCTETS, &sequence(&uses)),
            ]);
            body.push(element(EXTENSIONS, &sequence(&[other, usage])));
        }
        sequence(&[sequence(&body), sequence(&[])])
    }

    fn times() -> Vec<Vec<u8>> {
        vec![element(UTC_TIME, b"261127000000Z"), element(GENERALIZED_TIME, b"20500101000000Z")]
    }

    #[test]
    fn validity_and_uses_are_read() {
        let allowance = Allowance::parse(&certificate(&times(), None)).unwrap();
        assert_eq!((allowance.not_before_s, allowance.not_after_s), (1_795_737_600, 2_524_608_000));
        assert!(allowance.client, "no use is named");
        let client = |uses: &[&[u8]]| Allowance::parse(&certificate(&times(), Some(uses))).unwrap().client;
        assert!(client(&[CLIENT_AUTH]) && client(&[ANY_USE]) && client(&[b"other", CLIENT_AUTH]));
        assert!(!client(&[b"other"]) && !client(&[]));
    }

    #[test]
    fn what_is_no_certificate_is_refused_at_every_length() {
        let whole = certificate(&times(), Some(&[CLIENT_AUTH]));
        for length in 0..whole.len() {
            assert_eq!(Allowance::parse(&whole[..length]), None, "{length} bytes");
        }
        for bad in [&b"261327000000Z"[..], b"26112700000Z", b"2611270000000", b"", b"+61127000000Z"] {
            assert_eq!(Allowance::parse(&certificate(&[element(UTC_TIME, bad), times().remove(1)], None)), None);
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                // Anything but a panic.
                let _any = Allowance::parse(&changed);
            }
        }
    }
}
