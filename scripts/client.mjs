// Before `npm pack` in packages/client: builds, unless called with --built, and puts together what it ships. The client's rooms are compiled with all others; the libraries
// that load rocksdb-native go along, with a stand-in for it, so that npm brings no RocksDB to whoever wants a client only.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOMS = ['client', 'errors', 'home', 'link', 'protocol', 'store']
const LIBRARIES = ['corestore', 'hypercore', 'hypercore-storage']

const root = fileURLToPath(new URL('..', import.meta.url))
const client = join(root, 'packages', 'client')
if (!process.argv.includes('--built')) {
  execFileSync(process.execPath, [join(root, 'scripts', 'build.mjs')], { stdio: ['ignore', 2, 2] })
}

for (const made of ['dist', 'node_modules']) rmSync(join(client, made), { recursive: true, force: true })
mkdirSync(join(client, 'node_modules'))
for (const room of ROOMS) {
  cpSync(join(root, 'dist', 'lib', room), join(client, 'dist', room), {
    recursive: true,
    filter: (path) => !path.endsWith('.map'),
  })
}
for (const library of LIBRARIES) {
  const from = join(root, 'node_modules', library)
  const filter = (path) => path === from || basename(path) !== 'node_modules'
  cpSync(from, join(client, 'node_modules', library), { recursive: true, filter })
}
cpSync(join(client, 'rocksdb-native'), join(client, 'node_modules', 'rocksdb-native'), { recursive: true })
cpSync(join(root, 'LICENSE'), join(client, 'LICENSE'))
