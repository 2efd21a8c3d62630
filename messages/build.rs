//! Builds the files of the chat page and of the admin page from `web/` and from the client library. It compiles
//! TypeScript to JavaScript itself: building the executable needs nothing but cargo. A page gets the files that its
//! `index.html` names, and every module that these import, directly or not. All other files stay out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};
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

/// The folder of the pages' own files, relative to this crate.
const PAGE_FOLDER: &str = "../web";
/// Each page, below that folder. `web_page.rs` serves them.
const PAGES: [&str; 2] = ["index.html", "admin/index.html"];
/// The folder of the client library's files.
const CLIENT_FOLDER: &str = "../clients/typescript/src";
/// The URL path below which the server serves the files.
const URL_PREFIX: &str = "/web/";
/// The tags around the only inline script of the chat page. The content security policy allows its hash, and files.
const IMPORT_MAP_TAGS: (&str, &str) = ("<script type=\"importmap\">", "</script>");
/// A page's placeholder for the list of its modules; the browser then fetches them all at once.
const MODULES_PLACEHOLDER: &str = "<!-- modules -->";
/// The root element of a page. In development mode an attribute says that the server signs in any user.
const ROOT_ELEMENT: &str = "<html lang=\"en\">";
const DEVELOPMENT_ROOT_ELEMENT: &str = "<html lang=\"en\" data-development>";

fn main() {
    if let Err(error) = build() {
        // Cargo shows each line as an error, and stops.
        for line in format!("{error:#}").lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> anyhow::Result<()> {
    for folder in [PAGE_FOLDER, CLIENT_FOLDER] {
        println!("cargo:rerun-if-changed={folder}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut import_maps = Vec::new();
    let mut assets = BTreeMap::new();
    for name in PAGES {
        let source = Page::read(name)?;
        assets.extend(build_page(&source, &out)?);
        import_maps.extend(source.import_map);
    }
    let [import_map] = import_maps.as_slice() else { bail!("one of the pages has an import map: {PAGES:?}") };
    println!("cargo:rustc-env=IMPORT_MAP_HASH=sha256-{}", STANDARD.encode(Sha256::digest(import_map)));
    fs::write(out.join("assets.rs"), write_assets(&assets, &out)?)?;
    Ok(())
}

/// The source of a page.
struct Page {
    /// Its file below [`PAGE_FOLDER`].
    name: &'static str,
    html: String,
    /// The inline script between [`IMPORT_MAP_TAGS`], for a page that imports packages.
    import_map: Option<String>,
}

impl Page {
    fn read(name: &'static str) -> anyhow::Result<Self> {
        let html = fs::read_to_string(format!("{PAGE_FOLDER}/{name}")).with_context(|| format!("web/{name}"))?;
        ensure!(
            html.contains(MODULES_PLACEHOLDER) && html.contains(ROOT_ELEMENT),
            "web/{name} lacks {MODULES_PLACEHOLDER} or {ROOT_ELEMENT}"
        );
        let import_map = between(&html, IMPORT_MAP_TAGS).map(str::to_owned);
        Ok(Self { name, html, import_map })
    }
}

/// Writes a page with the list of its modules, and its development variant. Returns its assets.
fn build_page(page: &Page, out: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let import_map = page.import_map.as_deref().map(parse_import_map).transpose()?.unwrap_or_default();
    let assets = collect_assets(&page.html, &import_map).with_context(|| format!("web/{}", page.name))?;
    let modules = assets.keys().filter(|name| name.ends_with(".js"));
    let preloads: Vec<String> =
        modules.map(|name| format!("<link rel=\"modulepreload\" href=\"{URL_PREFIX}{name}\">")).collect();
    let html = page.html.replace(MODULES_PLACEHOLDER, &preloads.join("\n  "));
    let path = out.join("pages").join(page.name);
    fs::create_dir_all(path.parent().context("a page's path has a folder")?)?;
    fs::write(path.with_extension("development.html"), html.replace(ROOT_ELEMENT, DEVELOPMENT_ROOT_ELEMENT))?;
    fs::write(path, html)?;
    Ok(assets)
}

fn between<'a>(text: &'a str, (start, end): (&str, &str)) -> Option<&'a str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}

/// The import map: from the name of a package to the URL path of its module.
fn parse_import_map(json: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let map: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(json).context("the import map")?;
    map.into_iter()
        .find_map(|(key, imports)| (key == "imports").then_some(imports))
        .context("the import map has no imports")
}

/// Every file that the page needs, by its name below [`URL_PREFIX`].
fn collect_assets(page: &str, import_map: &BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut assets = BTreeMap::new();
    let mut pending: Vec<String> =
        page.split('"').filter_map(|part| part.strip_prefix(URL_PREFIX)).map(str::to_owned).collect();
    while let Some(name) = pending.pop() {
        if assets.contains_key(&name) {
            continue;
        }
        let source = source_path(&name);
        let bytes = fs::read(&source).with_context(|| format!("{}, which the page needs", source.display()))?;
        let bytes = if source.extension().is_some_and(|extension| extension == "ts") {
            let module = compile(&source, &String::from_utf8(bytes)?)?;
            for import in &module.imports {
                let imported = resolve(import, &name, import_map);
                pending.push(imported.with_context(|| format!("{}: {import}", source.display()))?);
            }
            module.code.into_bytes()
        } else {
            bytes
        };
        assets.insert(name, bytes);
    }
    Ok(assets)
}

/// The source file of an asset: TypeScript for a script, unless the script is vendored; else the file itself.
fn source_path(name: &str) -> PathBuf {
    let (folder, name) = name.strip_prefix("client/").map_or((PAGE_FOLDER, name), |name| (CLIENT_FOLDER, name));
    let is_compiled = name.ends_with(".js") && !name.starts_with("vendor/");
    let path = Path::new(folder).join(name);
    if is_compiled { path.with_extension("ts") } else { path }
}

/// The asset's name of an imported module.
fn resolve(import: &str, importer: &str, import_map: &BTreeMap<String, String>) -> anyhow::Result<String> {
    if import.starts_with('.') {
        let mut path: Vec<&str> = importer.split('/').collect();
        path.pop(); // the importer itself
        for component in Path::new(import).components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir => drop(path.pop().context("not below /web/")?),
                other => path.push(other.as_os_str().to_str().context("not UTF-8")?),
            }
        }
        return Ok(path.join("/"));
    }
    let url_path = import_map.get(import).context("the import map has no entry for this import")?;
    url_path.strip_prefix(URL_PREFIX).map(str::to_owned).context("not under /web/")
}

struct Module {
    code: String,
    imports: Vec<String>,
}

/// Compiles a module to JavaScript. Its imports are those that remain: imports of types are gone.
fn compile(path: &Path, source: &str) -> anyhow::Result<Module> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, SourceType::ts()).parse();
    fail_on(path, source, parsed.diagnostics.errors())?;
    let mut program = parsed.program;
    let checked = SemanticBuilder::new().with_check_syntax_error(true).build(&program);
    fail_on(path, source, checked.diagnostics.errors())?;
    let scoping = checked.semantic.into_scoping();
    let options = TransformOptions::default();
    let transformed = Transformer::new(&allocator, path, &options).build_with_scoping(scoping, &mut program);
    fail_on(path, source, transformed.diagnostics.errors())?;
    let statements = program.body.iter().filter_map(|statement| statement.as_module_declaration());
    let imports = statements.filter_map(|declaration| declaration.source()).map(|source| source.value.to_string());
    Ok(Module { imports: imports.collect(), code: Codegen::new().build(&program).code })
}

/// Fails if a file has errors, and lists each as `file:line: error`.
fn fail_on<'a>(path: &Path, source: &str, errors: impl Iterator<Item = &'a OxcDiagnostic>) -> anyhow::Result<()> {
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

/// Writes the assets to files. Returns Rust source that includes them: an array of `Asset`, as `web_page.rs` has it.
fn write_assets(assets: &BTreeMap<String, Vec<u8>>, out: &Path) -> anyhow::Result<String> {
    let mut array = "[".to_owned();
    for (name, bytes) in assets {
        let path = out.join("files").join(name);
        fs::create_dir_all(path.parent().context("an asset's path has a folder")?)?;
        fs::write(&path, bytes)?;
        let content_type = match name.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => return Err(anyhow!("{name}: add the content type of such files to messages/build.rs")),
        };
        let etag = format!("\"{}\"", STANDARD.encode(&Sha256::digest(bytes)[..15]));
        write!(array, "Asset {{ name: {name:?}, content_type: {content_type:?}, etag: {etag:?}, ")?;
        write!(array, "content: include_bytes!({path:?}) }}, ")?;
    }
    Ok(array + "]")
}
