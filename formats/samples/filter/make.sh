#!/bin/sh
# Makes the samples of this directory with the standard tools: gzip 1.12, zstd 1.5.4, lz4 1.9.4, bzip2 1.0.8,
# OpenSSL 3.0. The plain text is not kept: 160,000 bytes, SHA-1 in plain.sha1.
set -eu
cd "$(dirname "$0")"
python3 - > plain.txt <<'PY'
import hashlib, sys
out = bytearray()
while len(out) < 80_000:                     # compresses well
    out += f"row {len(out) // 7:08d} of a table, ".encode()
hashed = b"pgbr"
while len(out) < 90_000:                     # does not compress
    hashed = hashlib.sha1(hashed).digest()
    out += hashed
out += out[:70_000]                          # repeats what is more than 64 KiB away
sys.stdout.buffer.write(out[:160_000])
PY
sha1sum < plain.txt | cut -c 1-40 > plain.sha1
head -c 70000 plain.txt > a.part
tail -c +70001 plain.txt > b.part
gzip -n -9 < plain.txt > one-member.gz
{ gzip -n -1 < a.part; gzip -n -6 < b.part; } > two-members.gz
bzip2 -9 < plain.txt > one-stream.bz2
{ bzip2 -1 < a.part; bzip2 -9 < b.part; } > two-streams.bz2
zstd -q -19 --no-check < plain.txt > without-checksum.zst
zstd -q -3 --check < plain.txt > with-checksum.zst
lz4 -q -1 -B4 -BD < plain.txt > linked-64k.lz4
lz4 -q -9 -B7 < plain.txt > independent-4m.lz4
lz4 -q -9 -B4 -BD -BX --content-size plain.txt content-size-block-checksum.lz4
lz4 -q -1 -B5 -BD --no-frame-crc < plain.txt > linked-256k-no-checksum.lz4
openssl enc -aes-256-cbc -md sha1 -pass pass:swordfish -S 0102030405060708 -in one-stream.bz2 -out openssl-body.tmp 2>/dev/null
# Newer OpenSSL leaves the header out when the salt is given.
{ printf 'Salted__\001\002\003\004\005\006\007\010'; cat openssl-body.tmp; } > openssl.bz2.aes
if head -c 8 openssl-body.tmp | grep -q Salted__; then cp openssl-body.tmp openssl.bz2.aes; fi
rm plain.txt a.part b.part openssl-body.tmp
