//! Sockets and TLS.

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "use blocking sockets"
    SCK_BLOCK: Key<Boolean> = global("sck-block", NET).default("n").background().internal().idle(why::SOCKET);

    "let the kernel probe idle connections"
    SCK_KEEP_ALIVE: Key<Boolean> = global("sck-keep-alive", NET).default("y").background();

    "unanswered probes after which a connection counts as lost"
    TCP_KEEP_ALIVE_COUNT: Key<Integer> = global("tcp-keep-alive-count", NET)
        .optional().range("1", "32").when("sck-keep-alive", &["y"]).background();

    "seconds of silence before the first probe"
    TCP_KEEP_ALIVE_IDLE: Key<Integer> = global("tcp-keep-alive-idle", NET)
        .optional().range("1", "3600").when("sck-keep-alive", &["y"]).background();

    "seconds between two probes"
    TCP_KEEP_ALIVE_INTERVAL: Key<Integer> = global("tcp-keep-alive-interval", NET)
        .optional().range("1", "900").when("sck-keep-alive", &["y"]).background();

    "OpenSSL's names of the allowed TLS 1.2 ciphers"
    TLS_CIPHER_12: Key<Text> = global("tls-cipher-12", NET).optional().background().refused(why::CIPHERS);

    "OpenSSL's names of the allowed TLS 1.3 ciphers"
    TLS_CIPHER_13: Key<Text> = global("tls-cipher-13", NET).optional().background().refused(why::CIPHERS);
}
