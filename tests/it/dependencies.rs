//! Rules for the packages of others that the build uses: where they come from, their licences, and how many versions.
//! Some packages are banned only because they take long to build.

use std::collections::{BTreeMap, BTreeSet};

use spdx::{Expression, ParseMode};

use crate::harness::repository::{cargo, packages, text};

/// Licences that the executable may contain: none of them asks for more than attribution.
const ACCEPTED_LICENCES: [&str; 10] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// A package that the build must not contain.
struct Banned {
    package: &'static str,
    /// What to do about the package that needs it.
    instead: &'static str,
}

const BANNED: [Banned; 6] = [
    Banned { package: "openssl", instead: "use its rustls feature with ring" },
    Banned { package: "openssl-sys", instead: "use its rustls feature with ring" },
    Banned { package: "native-tls", instead: "use its rustls feature with ring" },
    Banned {
        package: "aws-lc-sys",
        instead: "choose ring as the provider: two are twice the code to trust, and this one takes minutes to build",
    },
    Banned {
        package: "sqlx-macros",
        instead: "do without its macros: cargo builds sqlx, tokio and rustls a second time for them",
    },
    Banned {
        package: "icu_provider",
        instead: "keep the versions of idna_adapter and textwrap that use smaller tables: see messages/Cargo.toml",
    },
];

/// A package of which the build has several versions, because other packages don't agree on one.
struct Repeated {
    package: &'static str,
    /// Who needs the older version.
    reason: &'static str,
}

const OLD_HASHES: &str = "sqlx-core checks migrations with an older SHA-2 than sqlx-postgres signs in with";
const OLD_RANDOM: &str = "metrics-util and opentelemetry_sdk have an older rand than sqlx-postgres and tungstenite";

/// Every package with several versions. Two versions take twice as long to build, and each has its own types.
const REPEATED: [Repeated; 15] = [
    Repeated { package: "base64", reason: "sqlx and jsonwebtoken have an older one than reqwest and hyper" },
    Repeated { package: "block-buffer", reason: OLD_HASHES },
    Repeated { package: "cpufeatures", reason: OLD_HASHES },
    Repeated { package: "crypto-common", reason: OLD_HASHES },
    Repeated { package: "digest", reason: OLD_HASHES },
    Repeated { package: "getrandom", reason: "ring has an older one, and so has the older rand" },
    Repeated { package: "hashbrown", reason: "sqlx-core and metrics-util have an older one than indexmap" },
    Repeated { package: "matchit", reason: "axum has an older one than socketioxide" },
    Repeated { package: "num-bigint", reason: "jsonschema, for the tests of domain, has an older one than oxc" },
    Repeated { package: "phf", reason: "emojis has an older one than oxc" },
    Repeated { package: "phf_shared", reason: "it belongs to phf" },
    Repeated { package: "rand", reason: OLD_RANDOM },
    Repeated { package: "rand_core", reason: OLD_RANDOM },
    Repeated { package: "sha2", reason: OLD_HASHES },
    Repeated { package: "syn", reason: "num_enum, prost, zeroize and tracing derive with an older one than serde" },
];

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
}

/// The packages that this platform's build contains, with the features that are on. `cargo metadata` also lists those
/// that only other features need.
fn built_packages() -> BTreeSet<Package> {
    let tree = ["tree", "--workspace", "--locked", "--edges", "all", "--prefix", "none", "--format", "{p}"];
    let printed = cargo(&tree);
    let packages = printed.lines().filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        let version = rest.split(' ').next()?.strip_prefix('v')?;
        Some(Package { name: name.to_owned(), version: version.to_owned() })
    });
    packages.collect()
}

#[test]
fn every_package_of_others_comes_from_crates_io() {
    for line in text("Cargo.lock").lines() {
        if let Some(source) = line.strip_prefix("source = ") {
            let published = source.starts_with("\"registry+") && source.ends_with("/crates.io-index\"");
            assert!(published, "Cargo.lock has {source}: depend on a published version instead of a fork or branch");
        }
    }
    let lock = text("Cargo.lock");
    let all = lock.matches("[[package]]").count();
    let published = lock.matches("\nsource = ").count();
    let of_the_workspace = packages(&["--no-deps"]).len();
    let explained = "Cargo.lock has a package that is neither of the workspace nor published";
    assert_eq!(all - published, of_the_workspace, "{explained}");
}

#[test]
fn every_package_has_an_accepted_licence() {
    let built = built_packages();
    for package in packages(&[]) {
        let name = package["name"].as_str().unwrap();
        let version = package["version"].as_str().unwrap();
        if !built.contains(&Package { name: name.to_owned(), version: version.to_owned() }) {
            continue;
        }
        let licence =
            package["license"].as_str().unwrap_or_else(|| panic!("{name} has no licence: remove the package"));
        // Older manifests write MIT/Apache-2.0.
        let expression = Expression::parse_mode(licence, ParseMode::LAX)
            .unwrap_or_else(|error| panic!("{name}: {licence} is no SPDX expression: {error}"));
        let accepted = expression.evaluate(|wanted| {
            let known = wanted.license.id().is_some_and(|id| ACCEPTED_LICENCES.contains(&id.name));
            known && wanted.addition.is_none()
        });
        assert!(
            accepted,
            "{name} is under {licence}: remove the package, or add it to ACCEPTED_LICENCES after careful thought"
        );
    }
}

#[test]
fn ring_is_the_only_cryptography_and_tls_is_not_the_systems() {
    let built = built_packages();
    let contains = |wanted: &str| built.iter().any(|package| package.name == wanted);
    for Banned { package, instead } in BANNED {
        assert!(
            !contains(package),
            "the build contains {package}: find the package that needs it with `cargo tree -i {package} -e features`, \
             then {instead}"
        );
    }
    assert!(contains("ring"), "the list of built packages can't be read");
}

#[test]
fn a_package_has_one_version_unless_others_cannot_agree() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Package { name, version } in built_packages() {
        versions.entry(name).or_default().push(version);
    }
    for (name, found) in versions.iter().filter(|(_, found)| found.len() > 1) {
        assert!(
            REPEATED.iter().any(|repeated| repeated.package == name),
            "{name} has the versions {found:?}: see `cargo tree -d`, and align the packages that need the other version"
        );
    }
    for Repeated { package, reason } in REPEATED {
        let found = versions.get(package).map_or(0, Vec::len);
        assert!(found > 1, "{package} no longer has several versions ({reason}): remove it from REPEATED");
    }
}
