//! No file depends on one machine, and none says where packages are downloaded from: that is the tools' own setting.

use crate::harness::repository::{files, text};

/// The beginnings of paths that exist on somebody's machine only.
const PERSONAL_FOLDERS: [&str; 4] = ["/home/", "/root/", "/work/", "/Users/"];

/// What a lock file or a setting of a package manager must not contain, by the end of the file's name.
const ADDRESSES: [(&str, &[&str]); 6] = [
    ("package-lock.json", &["\"resolved\""]),
    (".npmrc", &["://", "registry="]),
    ("pom.xml", &["<repositories>", "<pluginRepositories>", "<distributionManagement>"]),
    ("requirements.txt", &["://", "--index-url", "--extra-index-url", "--find-links"]),
    (".cargo/config.toml", &["://", "[source", "[registries", "registry ="]),
    ("rust-toolchain.toml", &["://", "path ="]),
];

#[test]
fn no_file_depends_on_one_machine() {
    for file in files().iter().filter(|file| *file != "tests/it/tidy/origins.rs") {
        let text = text(file);
        for folder in PERSONAL_FOLDERS {
            assert!(!text.contains(folder), "{file}: {folder} exists on one machine; start at the repository's root");
        }
    }
}

#[test]
fn no_lock_file_or_setting_says_where_packages_come_from() {
    for file in files() {
        let addresses = ADDRESSES.iter().filter(|(name, _)| file.ends_with(name)).flat_map(|(_, found)| *found);
        for address in addresses {
            let hint =
                "leave it to the tools (npm: set omit-lockfile-registry-resolved and create the lock file again)";
            assert!(!text(&file).contains(address), "{file} contains {address}: {hint}");
        }
    }
}

#[test]
fn every_crate_comes_from_the_default_registry() {
    let lock = text("Cargo.lock");
    let mut sources: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    sources.sort_unstable();
    sources.dedup();
    let [source] = sources.as_slice() else { panic!("Cargo.lock has several sources: {sources:?}") };
    assert!(source.starts_with("\"registry+"), "Cargo.lock: {source} is no registry; depend on published crates only");
}
