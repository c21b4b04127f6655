//! The PostgreSQL cluster: where it is and how to reach its server.

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "database to connect to"
    PG_DATABASE: PgKey<Text> = stanza_only("pg-database", SQL).default("postgres").when_set("pg-path");

    "host of a remote cluster"
    PG_HOST: PgKey<Text> = stanza_only("pg-host", PGDATA)
        .optional().when("pg-local", &["n"]).background().except(&[on(AG.with(AP).with(RE)).internal()])
        .deprecated(&[old_either("db-host")]).refused(why::REMOTE);

    "certificate authority of that host"
    PG_HOST_CA_FILE: PgKey<Text> = global("pg-host-ca-file", CLUSTER)
        .optional().when("pg-host-type", &["tls"]).refused(why::REMOTE);

    "directory of certificate authorities for that host"
    PG_HOST_CA_PATH: PgKey<Text> = global("pg-host-ca-path", CLUSTER)
        .optional().when("pg-host-type", &["tls"]).refused(why::REMOTE);

    "client certificate for that host"
    PG_HOST_CERT_FILE: PgKey<Text> = global("pg-host-cert-file", CLUSTER)
        .when("pg-host-type", &["tls"]).refused(why::REMOTE);

    "program to start on that host"
    PG_HOST_CMD: PgKey<Text> = stanza_only("pg-host-cmd", CLUSTER)
        .default_program().when("pg-host-type", &["ssh"]).deprecated(&[old_either("db-cmd")]).refused(why::REMOTE);

    "configuration file on that host"
    PG_HOST_CONFIG: PgKey<Path> = stanza_only("pg-host-config", CLUSTER)
        .default("/etc/pgbackrest/pgbackrest.conf").when_set("pg-host").deprecated(&[old_either("db-config")])
        .refused(why::REMOTE);

    "include directory on that host"
    PG_HOST_CONFIG_INCLUDE_PATH: PgKey<Path> = stanza_only("pg-host-config-include-path", CLUSTER)
        .default("/etc/pgbackrest/conf.d").when_set("pg-host").refused(why::REMOTE);

    "configuration directory on that host"
    PG_HOST_CONFIG_PATH: PgKey<Path> = stanza_only("pg-host-config-path", CLUSTER)
        .default("/etc/pgbackrest").when_set("pg-host").refused(why::REMOTE);

    "key of the client certificate"
    PG_HOST_KEY_FILE: PgKey<Text> = global("pg-host-key-file", CLUSTER)
        .when("pg-host-type", &["tls"]).refused(why::REMOTE);

    "port of that host"
    PG_HOST_PORT: PgKey<Integer> = stanza_only("pg-host-port", CLUSTER)
        .default_by(&[("tls", "8432")]).optional().range("0", "65535").when("pg-host-type", &["ssh", "tls"])
        .deprecated(&[old_either("db-ssh-port")]).refused(why::REMOTE);

    "protocol to that host"
    PG_HOST_TYPE: PgKey<StringId> = global("pg-host-type", CLUSTER)
        .default("ssh").allowed(&["ssh", "tls"]).when_set("pg-host").refused(why::REMOTE);

    "user on that host"
    PG_HOST_USER: PgKey<Text> = stanza_only("pg-host-user", CLUSTER)
        .default("postgres").when("pg-host-type", &["ssh"]).deprecated(&[old_either("db-user")])
        .refused(why::REMOTE);

    "the cluster is on this host, whatever pg-host says"
    PG_LOCAL: PgKey<Boolean> = stanza_only("pg-local", PGDATA).default("n").background().internal();

    "data directory of the cluster (PGDATA)"
    PG_PATH: PgKey<Path> = stanza_only("pg-path", PGDATA)
        .background().except(&[on(AP.with(MF)).optional(), on(CK).when_set("stanza")])
        .deprecated(&[old_either("db-path")]);

    "port of the server"
    PG_PORT: PgKey<Integer> = stanza_only("pg-port", SQL)
        .default("5432").range("0", "65535").when_set("pg-path").deprecated(&[old_either("db-port")]);

    "directory of the server's unix socket"
    PG_SOCKET_PATH: PgKey<Text> = stanza_only("pg-socket-path", SQL)
        .optional().when_set("pg-path").deprecated(&[old_either("db-socket-path")]);

    "role to connect as"
    PG_USER: PgKey<Text> = stanza_only("pg-user", SQL).optional().when_set("pg-path");

    "version to assume instead of the one found in PGDATA"
    PG_VERSION_FORCE: Key<Text> = stanza_only("pg-version-force", PGDATA.with(VE))
        .optional().background();

    "longest wait for an answer of the server"
    DB_TIMEOUT: Key<Time> = global("db-timeout", SQL).default("30m").range("100ms", "7d");
}
