//! A repository: what it is, and what is kept in it.

use super::key::*;
use super::row::*;
use super::why;
use crate::command::set::*;

options! {
    "kind of store the repository lies in"
    REPO_TYPE: RepoKey<StringId> = global("repo-type", REPOSITORY)
        .default("posix").allowed(&["azure", "cifs", "gcs", "posix", "s3", "sftp"]).background()
        .deprecated(&[old("repo-type")])
        .refused_values(&[("azure", why::AZURE), ("gcs", why::GCS), ("sftp", why::SFTP)]);

    "directory, or prefix within the bucket, of the repository"
    REPO_PATH: RepoKey<Path> = global("repo-path", REPOSITORY)
        .default("/var/lib/pgbackrest").background().deprecated(&[old("repo-path")]);

    "encryption of the repository"
    REPO_CIPHER_TYPE: RepoKey<StringId> = global("repo-cipher-type", REPOSITORY)
        .default("none").allowed(&["none", "aes-256-cbc"]).background().deprecated(&[old("repo-cipher-type")]);

    "passphrase of the repository"
    REPO_CIPHER_PASS: RepoKey<Secret> = global("repo-cipher-pass", REPOSITORY)
        .when("repo-cipher-type", &["aes-256-cbc"]).background().deprecated(&[old("repo-cipher-pass")]);

    "link unchanged files between backups instead of naming the backup that has them"
    REPO_HARDLINK: RepoKey<Boolean> = global("repo-hardlink", BK)
        .default("n").when("repo-bundle", &["n"]).otherwise("n").deprecated(&[old("hardlink")]);

    "keep symbolic links to the latest backup and to tablespaces"
    REPO_SYMLINK: RepoKey<Boolean> = global("repo-symlink", BK.with(EX))
        .default("y").when("repo-type", &["posix"]).otherwise("n");

    "read the repository as it was at this time (needs versioning in the store)"
    REPO_TARGET_TIME: Key<Text> = global("repo-target-time", AG.with(IN).with(MF).with(RG).with(RL).with(RE).with(VE))
        .optional().background();

    "whether repo-retention-full counts backups or days"
    REPO_RETENTION_FULL_TYPE: RepoKey<StringId> = global("repo-retention-full-type", BK.with(EX))
        .default("count").allowed(&["count", "time"]);

    "full backups (or days of them) to keep"
    REPO_RETENTION_FULL: RepoKey<Integer> = global("repo-retention-full", BK.with(EX))
        .optional().range("1", "9999999").deprecated(&[old("retention-full")]);

    "differential backups to keep"
    REPO_RETENTION_DIFF: RepoKey<Integer> = global("repo-retention-diff", BK.with(EX))
        .optional().range("1", "9999999").deprecated(&[old("retention-diff")]);

    "kind of backup that repo-retention-archive counts"
    REPO_RETENTION_ARCHIVE_TYPE: RepoKey<StringId> = global("repo-retention-archive-type", BK.with(EX))
        .default("full").allowed(&["full", "diff", "incr"]).deprecated(&[old("retention-archive-type")]);

    "backups for which all WAL is kept; older ones keep only what makes them consistent"
    REPO_RETENTION_ARCHIVE: RepoKey<Integer> = global("repo-retention-archive", BK.with(EX))
        .optional().range("1", "9999999").deprecated(&[old("retention-archive")]);

    "days for which manifests of expired backups are kept"
    REPO_RETENTION_HISTORY: RepoKey<Integer> = global("repo-retention-history", BK.with(EX))
        .optional().range("0", "9999999");

    "pack small files together"
    REPO_BUNDLE: RepoKey<Boolean> = global("repo-bundle", BK).default("n");

    "bytes at which a bundle is closed"
    REPO_BUNDLE_SIZE: RepoKey<Size> = global("repo-bundle-size", BK)
        .default("20MiB").range("1MiB", "1PiB").when("repo-bundle", &["y"]);

    "largest file that goes into a bundle"
    REPO_BUNDLE_LIMIT: RepoKey<Size> = global("repo-bundle-limit", BK)
        .default("2MiB").range("8KiB", "1PiB").when("repo-bundle", &["y"]);

    "store only the changed blocks of a file"
    REPO_BLOCK: RepoKey<Boolean> = global("repo-block", BK).default("n").when("repo-bundle", &["y"]).otherwise("n");

    "file size=block size pair"
    REPO_BLOCK_SIZE_MAP: RepoKey<Hash> = global("repo-block-size-map", BK)
        .optional().when("repo-block", &["y"]).internal();

    "age in days=factor pair that makes blocks larger"
    REPO_BLOCK_AGE_MAP: RepoKey<Hash> = global("repo-block-age-map", BK)
        .optional().when("repo-block", &["y"]).internal();

    "block size=checksum size pair"
    REPO_BLOCK_CHECKSUM_SIZE_MAP: RepoKey<Hash> = global("repo-block-checksum-size-map", BK)
        .optional().when("repo-block", &["y"]).internal();

    "blocks compressed together, in bytes"
    REPO_BLOCK_SIZE_SUPER: RepoKey<Size> = global("repo-block-size-super", BK)
        .default("256KiB").range("32KiB", "16MiB").when("repo-block", &["y"]).internal();

    "the same for full backups"
    REPO_BLOCK_SIZE_SUPER_FULL: RepoKey<Size> = global("repo-block-size-super-full", BK)
        .default("1MiB").range("32KiB", "16MiB").when("repo-block", &["y"]).internal();
}
