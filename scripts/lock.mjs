import { readFileSync, writeFileSync } from 'node:fs'

/**
 * Puts the packages of every platform into package-lock.json. Where the registry in use does not carry them all, npm leaves
 * the missing ones out, and `npm ci` fails on those platforms. Run it after each change of the dependencies:
 *
 *   npm install --package-lock-only && node scripts/lock.mjs
 */

const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'))
const manifest = JSON.parse(readFileSync('package.json', 'utf8'))

/** What npm itself writes for an optional package of one platform, less the hash, which it checks with the registry. */
function entry(version, { os, cpu, libc, dev, node, license }) {
  return {
    version,
    cpu,
    ...(dev && { dev }),
    ...(libc && { libc }),
    license,
    optional: true,
    os: [os],
    engines: { node },
  }
}

function add(name, value) {
  const path = `node_modules/${name}`
  if (lock.packages[path] === undefined) lock.packages[path] = value
}

const biome = lock.packages['node_modules/@biomejs/biome'].optionalDependencies
for (const [name, version] of Object.entries(biome)) {
  const [os, cpu, musl] = name.slice('@biomejs/cli-'.length).split('-')
  add(
    name,
    entry(version, {
      os,
      cpu: [cpu],
      libc: musl && ['musl'],
      dev: true,
      node: '>=14.21.3',
      license: 'MIT OR Apache-2.0',
    }),
  )
}

const PLATFORMS = {
  'linux-riscv64': { os: 'linux', cpu: ['riscv64'], libc: ['glibc'] },
  'mac-arm64-metal': { os: 'darwin', cpu: ['arm64', 'x64'] },
  'mac-x64': { os: 'darwin', cpu: ['x64'] },
  'win-arm64': { os: 'win32', cpu: ['arm64', 'x64'] },
  'win-x64': { os: 'win32', cpu: ['x64'] },
}
const llama = lock.packages['node_modules/node-llama-cpp'].version
const llamaEntry = (platform) => entry(llama, { ...PLATFORMS[platform], dev: true, node: '>=20.0.0', license: 'MIT' })
for (const platform of Object.keys(PLATFORMS)) add(`@node-llama-cpp/${platform}`, llamaEntry(platform))
// The back ends that package.json's overrides replace by a package which none of their platforms installs.
for (const name of Object.keys(manifest.overrides['node-llama-cpp'])) {
  if (name.startsWith('@node-llama-cpp/'))
    add(name, { name: '@node-llama-cpp/linux-riscv64', ...llamaEntry('linux-riscv64') })
}

const { '': root, ...rest } = lock.packages
const sorted = Object.entries(rest).sort(([a], [b]) => a.localeCompare(b, 'en'))
lock.packages = { '': root, ...Object.fromEntries(sorted) }
writeFileSync('package-lock.json', `${JSON.stringify(lock, null, 2)}\n`)
