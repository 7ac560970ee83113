#!/usr/bin/env bash
# Packs a release archive, after `cargo build --release --locked`. Run from the repository's root.
#
#   scripts/package.sh [PROGRAM]           target/dist/moim-VERSION-TARGET.tar.gz and its .sha256
#   scripts/package.sh --check-tag vX.Y.Z  fails unless Cargo.toml and CHANGELOG.md have this version
#   scripts/package.sh --notes vX.Y.Z      the section of CHANGELOG.md
#
# PROGRAM: moim (default target/release/moim). Needs jq and the toolchain of rust-toolchain.toml.
set -euo pipefail

fail() {
  echo "package.sh: $*" >&2
  exit 1
}

version() {
  cargo metadata --locked --no-deps --format-version 1 \
    | jq --raw-output '.packages[] | select(.name == "moim").version'
}

# The section of a version in CHANGELOG.md, without its heading.
notes() { # TAG
  awk -v heading="## [${1#v}] - " '
    /^## / { inside = index($0, heading) == 1; next }
    inside' CHANGELOG.md
}

check_tag() { # TAG
  local in_manifest
  in_manifest=$(version)
  [[ $1 == "v$in_manifest" ]] || fail "the tag is $1, and Cargo.toml has version $in_manifest"
  grep -qE "^## \[${in_manifest//./\\.}\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md \
    || fail "CHANGELOG.md has no heading \"## [$in_manifest] - YYYY-MM-DD\""
}

# "name version", a tab and its folder, for each crate that is compiled into the program.
crates() { # TARGET
  cargo metadata --locked --filter-platform "$1" --format-version 1 \
    | jq --raw-output '.packages[] | select(.source) | "\(.name) v\(.version)\t\(.manifest_path | rtrimstr("/Cargo.toml"))"' \
    | sort | join -t $'\t' - <(cargo tree --locked --package moim --edges normal --target "$1" \
      --prefix none --format '{p}' | sed 's/ (.*//' | sort --unique)
}

# Their licences, then the texts that they come with, each text once, below the crates that have it.
licences() { # TARGET
  local -A names=() texts=()
  local name folder file sum
  cargo tree --locked --package moim --edges normal --target "$1" --prefix none --format '{p}: {l}' \
    | sed 's/ (\/[^)]*)//; s/ (proc-macro)//; s/ (\*)$//' | sort --unique
  printf '\n--------\n\n'
  while IFS=$'\t' read -r name folder; do
    for file in "$folder"/{LICEN[CS]E,COPYING,NOTICE,UNLICENSE}*; do
      [[ -f $file ]] || continue
      sum=$(sha256sum "$file" | cut -d' ' -f1)
      texts[$sum]=$file
      names[$sum]+="$name"$'\n'
    done
  done < <(crates "$1")
  for sum in "${!texts[@]}"; do
    printf '%s\n%s\n\n--------\n\n' "${names[$sum]}" "$(<"${texts[$sum]}")"
  done
}

package() { # PROGRAM
  local program=$1 target name staging
  [[ -x $program ]] || fail "there is no $program; build it with: cargo build --release --locked"
  target=$(rustc --print host-tuple)
  name=moim-$(version)-$target
  [[ $("$program" --version) == "moim $(version)" ]] || fail "$program is another version"
  staging=$(mktemp --directory)
  mkdir --parents "$staging/$name/completions" target/dist
  install --strip "$program" "$staging/$name/moim"
  cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$staging/$name"
  licences "$target" > "$staging/$name/THIRD-PARTY-LICENSES"
  "$program" man > "$staging/$name/moim.1"
  "$program" completions bash > "$staging/$name/completions/moim.bash"
  "$program" completions fish > "$staging/$name/completions/moim.fish"
  "$program" completions zsh > "$staging/$name/completions/_moim"
  tar --create --gzip --owner=0 --group=0 --numeric-owner --file "target/dist/$name.tar.gz" --directory "$staging" "$name"
  rm -r "$staging"
  (cd target/dist && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
}

case ${1:-} in
  --check-tag) check_tag "${2:?which tag?}" ;;
  --notes) notes "${2:?which tag?}" ;;
  *) package "${1:-target/release/moim}" ;;
esac
