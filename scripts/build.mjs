// tsc, and then what tsc does not do: take away what a deleted source left in dist/, and make the command executable.
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)

const typescript = createRequire(import.meta.url).resolve('typescript/package.json')
const { status } = spawnSync(process.execPath, [join(dirname(typescript), 'bin', 'tsc')], { stdio: 'inherit' })

for (const entry of existsSync('dist') ? readdirSync('dist', { recursive: true, withFileTypes: true }) : []) {
  const path = join(entry.parentPath ?? entry.path, entry.name)
  // The engine that `infermesh gpu install` brought.
  if (path.startsWith(join('dist', 'node_modules'))) continue
  const source = path.replace(/^dist[\\/]/, '').replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts')
  if (entry.isFile() && source.endsWith('.ts') && !existsSync(source)) rmSync(path)
}

if (existsSync('dist/cli/main.js')) chmodSync('dist/cli/main.js', 0o755)
process.exit(status ?? 1)
