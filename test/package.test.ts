import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'brittle'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import {
  assembleClient,
  CLIENT_DIR,
  installTarball,
  type Manifest,
  type Packed,
  pack,
  readManifest,
  sizeOf,
} from './helpers/installed.js'
import { testUnless } from './helpers/needs.js'
import { readPage } from './helpers/page.js'
import { infermesh, runProgram } from './helpers/process.js'

/** What people install: the tarballs of both packages, in projects that have nothing else. */

const MB = 1e6
const LONG = { timeout: 120_000 }
/** The least Node whose `require` takes ES modules. */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const noRequire = major > 20 || minor >= 19 ? undefined : 'require takes ES modules from Node 20.19 on'

const root = readManifest(PACKAGE_ROOT)
const client = readManifest(CLIENT_DIR)

const tarballs = mkdtempSync(join(tmpdir(), 'infermesh-package-test-'))
process.once('exit', () => rmSync(tarballs, { recursive: true, force: true }))
const packedBefore = new Map<string, Promise<Packed>>()

/** The tarball of a package, which is made once for the whole file. */
function packed(dir: string): Promise<Packed> {
  const making = packedBefore.get(dir) ?? make(dir)
  packedBefore.set(dir, making)
  return making
}

async function make(dir: string): Promise<Packed> {
  if (dir === CLIENT_DIR) await assembleClient()
  return pack(dir, tarballs)
}

test('the client library is installed in less than 60 MB, without the engine and without RocksDB', LONG, async (t) => {
  const tarball = await packed(CLIENT_DIR)
  t.ok(tarball.sizeBytes < 0.4 * MB, `the tarball has ${tarball.sizeBytes} bytes`)
  const project = await t.tmp()
  const dir = await installTarball(project, tarball)
  const modules = join(project, 'node_modules')
  const bytes = sizeOf(modules)
  t.comment(`${(bytes / MB).toFixed(1)} MB`)
  t.ok(bytes > 20 * MB && bytes < 60 * MB, `${bytes} bytes`)
  for (const name of ['node-llama-cpp', '@node-llama-cpp', 'rocksdb-native', 'fastify', 'infermesh']) {
    t.absent(existsSync(join(modules, name)), name)
  }
  t.absent(existsSync(join(dir, 'node_modules', 'rocksdb-native', 'prebuilds')))
})

test('the client library asks a mesh from a project that has nothing else, as the README shows it', LONG, async (t) => {
  const home = join(await t.tmp(), 'home')
  t.teardown(() => infermesh(['down'], { home }))
  const up = await infermesh(['up', '--detach', '--no-check', '--http-port', '0', '--metrics-port', '0'], { home })
  t.is(up.code, 0, up.stderr)
  const project = await t.tmp()
  await installTarball(project, await packed(CLIENT_DIR))
  writeFileSync(join(project, 'ask.js'), example().replace("'infermesh'", "'@infermesh/client'"))
  const { stdout, stderr } = await runProgram([process.execPath, 'ask.js'], {
    cwd: project,
    env: { INFERMESH_HOME: home },
  })
  t.ok(stdout.includes('Paris'), stdout + stderr)
})

test('what the client library depends on is what the mesh was tested with, and is complete', (t) => {
  t.is(client.version, root.version)
  const installed = (name: string): Manifest => readManifest(join(PACKAGE_ROOT, 'node_modules', name))
  for (const [name, version] of Object.entries(client.dependencies ?? {})) t.is(version, installed(name).version, name)
  // npm leaves out what a bundled package needs, unless the package that bundles it asks for it.
  for (const name of client.bundleDependencies ?? []) {
    if (name === 'rocksdb-native') continue
    for (const needed of Object.keys(installed(name).dependencies ?? {})) {
      t.ok(client.dependencies?.[needed] !== undefined, `${name} needs ${needed}`)
    }
  }
})

test('the package infermesh ships what runs and its documents, and asks for no engine', LONG, async (t) => {
  const { files, sizeBytes } = await packed(PACKAGE_ROOT)
  t.ok(sizeBytes < 4 * MB, `the tarball has ${sizeBytes} bytes`)
  const needless = files.filter((path) =>
    /\.map$|\.test\.|^(dist\/)?(test|bench|scripts|packages|node_modules)\//.test(path),
  )
  t.alike(needless, [])
  const declarations = files.filter((path) => path.endsWith('.d.ts') && !path.startsWith('dist/lib/'))
  t.alike(declarations, [], 'declarations of what nobody imports')
  for (const path of [
    'LICENSE',
    'README.md',
    'dist/cli/main.js',
    'dist/worker.js',
    'models/infermesh-tiny.Q8_0.gguf',
  ]) {
    t.ok(files.includes(path), path)
  }
  for (const { exports = {} } of [root, client]) {
    t.alike(Object.keys(exports['.'] as object), ['types', 'default'], 'the types come first')
    t.is(exports['./package.json'], './package.json')
  }
  t.absent(Object.keys({ ...root.dependencies, ...root.optionalDependencies }).find((name) => name.includes('llama')))
  t.alike(root.peerDependenciesMeta?.['node-llama-cpp'], { optional: true })
})

testUnless(noRequire, 'both packages are loaded by import and by require', LONG, async (t) => {
  for (const [dir, name] of [
    [PACKAGE_ROOT, 'infermesh'],
    [CLIENT_DIR, '@infermesh/client'],
  ] as const) {
    const project = await t.tmp()
    await installTarball(project, await packed(dir))
    writeFileSync(join(project, 'import.mjs'), `import { MeshClient } from '${name}'; console.log(MeshClient.name)`)
    writeFileSync(join(project, 'require.cjs'), `console.log(require('${name}').MeshClient.name)`)
    for (const file of ['import.mjs', 'require.cjs']) {
      const { stdout, stderr } = await runProgram([process.execPath, file], { cwd: project })
      t.is(stdout, 'MeshClient\n', `${name}, ${file}`)
      t.is(stderr, '', `${name}, ${file}`)
    }
  }
})

test('the types resolve in a strict project that has typescript and nothing else', LONG, async (t) => {
  for (const [dir, name] of [
    [PACKAGE_ROOT, 'infermesh'],
    [CLIENT_DIR, '@infermesh/client'],
  ] as const) {
    const project = await t.tmp()
    await installTarball(project, await packed(dir), ['typescript'])
    writeFileSync(join(project, 'ask.ts'), example().replace("'infermesh'", `'${name}'`))
    writeFileSync(
      join(project, 'wrong.ts'),
      `import { MeshClient } from '${name}'\nnew MeshClient().chat({ messages: 7 })\n`,
    )
    for (const [module, moduleResolution] of [
      ['nodenext', 'nodenext'],
      ['esnext', 'bundler'],
    ]) {
      const strict = ['--strict', '--noEmit', '--skipLibCheck', 'false', '--target', 'es2023']
      const args = [...strict, '--module', module, '--moduleResolution', moduleResolution] as string[]
      const tsc = [process.execPath, 'node_modules/typescript/bin/tsc', ...args, 'ask.ts', 'wrong.ts']
      const { stdout } = await runProgram(tsc, { cwd: project })
      // An error goes on in lines that are set in.
      const errors = stdout.split('\n').filter((line) => /^\S/.test(line))
      t.is(errors.length, 1, `${name}, ${moduleResolution}: ${stdout.slice(0, 500)}`)
      t.ok(/^wrong\.ts\(2,.*TS2322/.test(errors[0] ?? ''), 'types that are wrong are refused, and no others')
    }
  }
})

/** The README's program, which is TypeScript as well. */
function example(): string {
  const [, code] = /<!-- example -->\n```\w+\n([\s\S]+?)```/.exec(readPage('../README.md')) ?? []
  if (code === undefined) throw new Error('The README has no example')
  return code
}
