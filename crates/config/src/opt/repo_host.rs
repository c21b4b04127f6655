//! Repositories that another host manages.

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "the repository is on this host, whatever repo-host says"
    REPO_LOCAL: RepoKey<Boolean> = global("repo-local", REPOSITORY).default("n").background().internal();

    "host that manages the repository"
    REPO_HOST: RepoKey<Text> = global("repo-host", REPOSITORY)
        .optional().when("repo-local", &["n"]).background().deprecated(&[old("backup-host")]).refused(why::REMOTE);

    "certificate authority of that host"
    REPO_HOST_CA_FILE: RepoKey<Text> = global("repo-host-ca-file", REPOSITORY)
        .optional().when("repo-host-type", &["tls"]).background().refused(why::REMOTE);

    "directory of certificate authorities for that host"
    REPO_HOST_CA_PATH: RepoKey<Text> = global("repo-host-ca-path", REPOSITORY)
        .optional().when("repo-host-type", &["tls"]).background().refused(why::REMOTE);

    "client certificate for that host"
    REPO_HOST_CERT_FILE: RepoKey<Text> = global("repo-host-cert-file", REPOSITORY)
        .when("repo-host-type", &["tls"]).background().refused(why::REMOTE);

    "program to start on that host"
    REPO_HOST_CMD: RepoKey<Text> = global("repo-host-cmd", REPOSITORY)
        .default_program().when("repo-host-type", &["ssh"]).background().deprecated(&[old("backup-cmd")])
        .refused(why::REMOTE);

    "configuration file on that host"
    REPO_HOST_CONFIG: RepoKey<Text> = global("repo-host-config", REPOSITORY)
        .default("/etc/pgbackrest/pgbackrest.conf").when_set("repo-host").background()
        .deprecated(&[old("backup-config")]).refused(why::REMOTE);

    "include directory on that host"
    REPO_HOST_CONFIG_INCLUDE_PATH: RepoKey<Path> = global("repo-host-config-include-path", REPOSITORY)
        .default("/etc/pgbackrest/conf.d").when_set("repo-host").background().refused(why::REMOTE);

    "configuration directory on that host"
    REPO_HOST_CONFIG_PATH: RepoKey<Path> = global("repo-host-config-path", REPOSITORY)
        .default("/etc/pgbackrest").when_set("repo-host").background().refused(why::REMOTE);

    "key of the client certificate"
    REPO_HOST_KEY_FILE: RepoKey<Text> = global("repo-host-key-file", REPOSITORY)
        .when("repo-host-type", &["tls"]).background().refused(why::REMOTE);

    "port of that host"
    REPO_HOST_PORT: RepoKey<Integer> = global("repo-host-port", REPOSITORY)
        .default_by(&[("tls", "8432")]).optional().range("0", "65535").when("repo-host-type", &["ssh", "tls"]).background()
        .deprecated(&[old("backup-ssh-port")]).refused(why::REMOTE);

    "protocol to that host"
    REPO_HOST_TYPE: RepoKey<StringId> = global("repo-host-type", REPOSITORY)
        .default("ssh").allowed(&["ssh", "tls"]).when_set("repo-host").background().refused(why::REMOTE);

    "user on that host"
    REPO_HOST_USER: RepoKey<Text> = global("repo-host-user", REPOSITORY)
        .default("pgbackrest").when("repo-host-type", &["ssh"]).background().deprecated(&[old("backup-user")])
        .refused(why::REMOTE);
}
