//! The routes of the admin API: nobody but an admin gets in, because each handler asks for one.

use super::{code_of, rust_sources};
use crate::harness::repository::text;

/// The beginning of a route's description, which stands above its handler.
const ROUTE: &str = "#[utoipa::path(";

#[test]
fn every_handler_of_the_admin_api_asks_for_an_admin() {
    let mut handlers = 0;
    for file in rust_sources().filter(|file| file.starts_with("admin-api/src/")) {
        let code = code_of(&text(&file));
        for route in code.split(ROUTE).skip(1) {
            let (_, handler) =
                route.split_once("async fn ").unwrap_or_else(|| panic!("{file}: a route without a handler"));
            let (parameters, _) = handler.split_once("->").unwrap_or_else(|| panic!("{file}: {handler}"));
            assert!(parameters.contains("AdminCaller"), "{file}: {parameters} must ask for an AdminCaller");
            handlers += 1;
        }
    }
    assert!(handlers >= 12, "only {handlers} routes were found");
}
