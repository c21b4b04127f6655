//! The TLS server of pgBackRest.

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "address to listen on"
    TLS_SERVER_ADDRESS: Key<Text> = global("tls-server-address", SV.with(SP)).default("localhost").refused(why::SERVER);

    "client=stanza pair: who may reach what"
    TLS_SERVER_AUTH: Key<Hash> = global("tls-server-auth", SV).refused(why::SERVER);

    "certificate authority of the clients"
    TLS_SERVER_CA_FILE: Key<Path> = global("tls-server-ca-file", SV).refused(why::SERVER);

    "certificate of the server"
    TLS_SERVER_CERT_FILE: Key<Path> = global("tls-server-cert-file", SV).refused(why::SERVER);

    "key of that certificate"
    TLS_SERVER_KEY_FILE: Key<Path> = global("tls-server-key-file", SV).refused(why::SERVER);

    "port to listen on"
    TLS_SERVER_PORT: Key<Integer> = global("tls-server-port", SV.with(SP))
        .default("8432").range("1", "65535").refused(why::SERVER);
}
