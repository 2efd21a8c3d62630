//! Makes the chat page's files from `web/` and the client library: TypeScript becomes JavaScript, so that building
//! needs nothing but cargo. What `index.html` names is served, and every module that is loaded from there on.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oxc_allocator::Allocator;
use oxc_codegen::Codegen;
use oxc_diagnostics::OxcDiagnostic;
use oxc_parser::Parser;
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;
use oxc_transformer::{TransformOptions, Transformer};
use sha2::{Digest, Sha256};

/// Where the page's own files are, seen from here.
const PAGE: &str = "../web";
/// Where the client library's are.
const LIBRARY: &str = "../clients/typescript/src";
/// Under which path the files are served.
const SERVED: &str = "/web/";
/// What the page's inline script stands between; its hash is all that the policy allows besides files.
const IMPORT_MAP: (&str, &str) = ("<script type=\"importmap\">", "</script>");
/// Where the page has the modules named, so that all of them are fetched at once.
const MODULES: &str = "<!-- modules -->";
/// What the page of development says more: that it can ask for a token of any user.
const ELEMENT: (&str, &str) = ("<html lang=\"en\">", "<html lang=\"en\" data-development>");

fn main() {
    if let Err(error) = make() {
        // Each line is an error to cargo, which then stops.
        for line in format!("{error:#}").lines() {
            println!("cargo::error={line}");
        }
    }
}

fn make() -> anyhow::Result<()> {
    for folder in [PAGE, LIBRARY] {
        println!("cargo:rerun-if-changed={folder}");
    }
    let page = fs::read_to_string(format!("{PAGE}/index.html")).context("web/index.html")?;
    let import_map = between(&page, IMPORT_MAP).context("web/index.html has no import map")?;
    println!("cargo:rustc-env=IMPORT_MAP_HASH=sha256-{}", STANDARD.encode(Sha256::digest(import_map)));
    let files = files(&page, &names(import_map)?)?;
    let modules = files.keys().filter(|name| name.ends_with(".js"));
    let preloads: Vec<String> =
        modules.map(|name| format!("<link rel=\"modulepreload\" href=\"{SERVED}{name}\">")).collect();
    ensure!(page.contains(MODULES) && page.contains(ELEMENT.0), "web/index.html lacks {MODULES} or {}", ELEMENT.0);
    let page = page.replace(MODULES, &preloads.join("\n  "));
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("index.html"), &page)?;
    fs::write(out.join("index.development.html"), page.replace(ELEMENT.0, ELEMENT.1))?;
    fs::write(out.join("files.rs"), table(&files, &out)?)?;
    Ok(())
}

fn between<'a>(text: &'a str, (start, end): (&str, &str)) -> Option<&'a str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}

/// The bare names of modules and where they are served, as the import map says.
fn names(import_map: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let map: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(import_map).context("the import map")?;
    map.into_iter()
        .find_map(|(key, names)| (key == "imports").then_some(names))
        .context("the import map has no imports")
}

/// Every file that the page needs, by the name under which it is served.
fn files(page: &str, names: &BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut wanted: Vec<String> =
        page.split('"').filter_map(|part| part.strip_prefix(SERVED)).map(str::to_owned).collect();
    while let Some(name) = wanted.pop() {
        if files.contains_key(&name) {
            continue;
        }
        let source = source(&name);
        let bytes = fs::read(&source).with_context(|| format!("{}, which the page needs", source.display()))?;
        let bytes = if source.extension().is_some_and(|extension| extension == "ts") {
            let module = javascript(&source, &String::from_utf8(bytes)?)?;
            for import in &module.imports {
                wanted.push(resolve(import, &name, names).with_context(|| format!("{}: {import}", source.display()))?);
            }
            module.code.into_bytes()
        } else {
            bytes
        };
        files.insert(name, bytes);
    }
    Ok(files)
}

/// What is served under a name: scripts are made from TypeScript, all else is as it is.
fn source(name: &str) -> PathBuf {
    let (folder, name) = name.strip_prefix("client/").map_or((PAGE, name), |name| (LIBRARY, name));
    let made = name.ends_with(".js") && !name.starts_with("vendor/");
    let path = Path::new(folder).join(name);
    if made { path.with_extension("ts") } else { path }
}

/// The name under which an imported module is served.
fn resolve(import: &str, importer: &str, names: &BTreeMap<String, String>) -> anyhow::Result<String> {
    if let Some(sibling) = import.strip_prefix("./") {
        let folder = importer.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        return Ok(format!("{folder}{sibling}"));
    }
    let served = names.get(import).context("the import map doesn't say where this is")?;
    served.strip_prefix(SERVED).map(str::to_owned).context("not under /web/")
}

struct Module {
    code: String,
    imports: Vec<String>,
}

/// A module without its types, and what it still imports.
fn javascript(path: &Path, source: &str) -> anyhow::Result<Module> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, SourceType::ts()).parse();
    complain(path, source, parsed.diagnostics.errors())?;
    let mut program = parsed.program;
    let checked = SemanticBuilder::new().with_check_syntax_error(true).build(&program);
    complain(path, source, checked.diagnostics.errors())?;
    let scoping = checked.semantic.into_scoping();
    let options = TransformOptions::default();
    let transformed = Transformer::new(&allocator, path, &options).build_with_scoping(scoping, &mut program);
    complain(path, source, transformed.diagnostics.errors())?;
    let statements = program.body.iter().filter_map(|statement| statement.as_module_declaration());
    let imports = statements.filter_map(|declaration| declaration.source()).map(|source| source.value.to_string());
    Ok(Module { imports: imports.collect(), code: Codegen::new().build(&program).code })
}

/// Fails with everything that is wrong in a file, each as `file:line: what`.
fn complain<'a>(path: &Path, source: &str, errors: impl Iterator<Item = &'a OxcDiagnostic>) -> anyhow::Result<()> {
    let mut text = String::new();
    for error in errors {
        let offset = error.labels.first().map_or(0, |label| label.offset() as usize);
        let line = source.get(..offset).unwrap_or_default().matches('\n').count() + 1;
        writeln!(text, "{}:{line}: {error}", path.display())?;
    }
    if !text.is_empty() {
        bail!("{text}");
    }
    Ok(())
}

/// The table of files as Rust: an array of `File`.
fn table(files: &BTreeMap<String, Vec<u8>>, out: &Path) -> anyhow::Result<String> {
    let mut table = "[".to_owned();
    for (name, bytes) in files {
        let path = out.join("files").join(name);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(&path, bytes)?;
        let kind = match name.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => return Err(anyhow!("{name}: say in messages/build.rs what kind of file that is")),
        };
        let tag = format!("\"{}\"", STANDARD.encode(&Sha256::digest(bytes)[..15]));
        write!(table, "File {{ name: {name:?}, kind: {kind:?}, tag: {tag:?}, content: include_bytes!({path:?}) }}, ")?;
    }
    Ok(table + "]")
}
