//! Rules for the packages of others that the build uses: where they come from, their licences, and how many versions.

use std::collections::{BTreeMap, BTreeSet};

use spdx::{Expression, ParseMode};

use crate::harness::repository::{cargo, packages, text};

/// Licences that the executable may contain: none of them asks for more than attribution.
const ACCEPTED_LICENCES: [&str; 9] =
    ["Apache-2.0", "BSD-3-Clause", "BSL-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Zlib"];

/// A package that the build must not contain.
struct Banned {
    package: &'static str,
    /// What to do about the package that needs it.
    instead: &'static str,
}

const BANNED: [Banned; 4] = [
    Banned { package: "openssl", instead: "use its rustls feature with ring" },
    Banned { package: "openssl-sys", instead: "use its rustls feature with ring" },
    Banned { package: "native-tls", instead: "use its rustls feature with ring" },
    Banned {
        package: "aws-lc-sys",
        instead: "choose ring as the provider: two are twice the code to trust, and this one takes minutes to build",
    },
];

/// Packages of which the build has one version: two versions would each have their own types, pools or settings.
const SINGLE_VERSION: [&str; 9] = ["axum", "http", "hyper", "rdkafka", "redis", "rustls", "serde", "sqlx", "tokio"];

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
fn shared_packages_have_one_version() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Package { name, version } in built_packages() {
        versions.entry(name).or_default().push(version);
    }
    for name in SINGLE_VERSION {
        let found = versions.get(name).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(
            found.len(),
            1,
            "{name} has the versions {found:?}: see `cargo tree -d`, and align the packages that need the other version"
        );
    }
}
