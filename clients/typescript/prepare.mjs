// Builds the library when npm installs this folder into a project.
//
// For a linked folder, npm runs `prepare` but installs none of the folder's dependencies. The first install therefore
// fetches them here, as package-lock.json pins them. `--ignore-scripts` keeps `npm ci` from calling this script again.

import { execSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const run = (command) => execSync(command, { stdio: 'inherit' });
const isInstalled = (name) => existsSync(`node_modules/${name}/package.json`);

// Looked up in this folder only: a compiler on the PATH says nothing about the library's own dependencies.
if (!['socket.io-client', 'typescript'].every(isInstalled)) {
  // `--include=dev`: the compiler is needed even where the project is installed for production.
  run('npm ci --ignore-scripts --include=dev --no-audit --no-fund');
}
run('npm run build');
