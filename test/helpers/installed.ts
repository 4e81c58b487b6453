import {
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { PACKAGE_ROOT } from '../../lib/worker-base/index.js'
import { runProgram } from './process.js'

/**
 * Packages as their users have them, without a network: the tarball that `npm pack` makes, unpacked into a project, and in
 * that project's node_modules what npm would put there, taken from this checkout's.
 */

export interface Manifest {
  name: string
  version: string
  exports?: Record<string, unknown>
  files?: string[]
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
  peerDependencies?: Record<string, string>
  peerDependenciesMeta?: Record<string, { optional?: boolean }>
  bundleDependencies?: string[]
}

export interface Packed {
  /** The tarball's path. */
  path: string
  files: string[]
  sizeBytes: number
}

export const CLIENT_DIR = join(PACKAGE_ROOT, 'packages', 'client')

export function readManifest(dir: string): Manifest {
  return JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))
}

/** What `npm pack` makes of a folder, without its scripts: those would compile anew under the other tests. */
export async function pack(dir: string, into: string): Promise<Packed> {
  const args = ['pack', '--json', '--ignore-scripts', '--offline', '--pack-destination', into]
  const { code, stdout, stderr } = await runProgram(['npm', ...args], { cwd: dir })
  if (code !== 0) throw new Error(`npm pack failed: ${stderr}`)
  const told: { filename: string; size: number; files: { path: string }[] } | undefined = packedOf(JSON.parse(stdout))
  if (told === undefined) throw new Error(`npm pack told of no package: ${stdout}`)
  const { filename, size, files } = told
  return {
    path: join(into, filename.replace('@', '').replace('/', '-')),
    files: files.map(({ path }) => path),
    sizeBytes: size,
  }
}

/** npm 12 tells by name, those before in a list. */
function packedOf(told: unknown) {
  return Object.values(told as object)[0]
}

/** Puts together what `npm pack` ships of packages/client, from what is compiled already. */
export async function assembleClient(): Promise<void> {
  const { code, stderr } = await runProgram([process.execPath, join(PACKAGE_ROOT, 'scripts', 'client.mjs'), '--built'])
  if (code !== 0) throw new Error(stderr)
}

/** Makes a project and installs a tarball in it, and packages of this checkout by name. @returns the package's folder */
export async function installTarball(project: string, packed: Packed, others: string[] = []): Promise<string> {
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }')
  const unpacked = join(project, '.unpacked')
  mkdirSync(unpacked)
  const { code, stderr } = await runProgram(['tar', 'xzf', packed.path, '-C', unpacked])
  if (code !== 0) throw new Error(stderr)
  const { name, dependencies = {}, bundleDependencies = [] } = readManifest(join(unpacked, 'package'))
  const dir = join(project, 'node_modules', name)
  link(join(unpacked, 'package'), dir)
  const seen = new Set<string>()
  for (const dependency of Object.keys(dependencies)) {
    if (!bundleDependencies.includes(dependency)) bring(dependency, PACKAGE_ROOT, false, project, seen)
  }
  for (const other of others) bring(other, PACKAGE_ROOT, false, project, seen)
  return dir
}

/** Links a package and what it needs to where npm puts it. */
function bring(name: string, from: string, isOptional: boolean, project: string, seen: Set<string>): void {
  const dir = find(name, from)
  if (dir === undefined) {
    if (isOptional) return
    throw new Error(`${name}, which ${from} needs, is not installed in this checkout`)
  }
  if (seen.has(dir)) return
  seen.add(dir)
  link(dir, join(project, relative(PACKAGE_ROOT, dir)))
  const { dependencies, optionalDependencies, peerDependencies, peerDependenciesMeta } = readManifest(dir)
  for (const one of Object.keys(dependencies ?? {}))
    bring(one, dir, optionalDependencies?.[one] !== undefined, project, seen)
  for (const one of Object.keys(optionalDependencies ?? {})) bring(one, dir, true, project, seen)
  for (const one of Object.keys(peerDependencies ?? {})) {
    if (peerDependenciesMeta?.[one]?.optional !== true) bring(one, dir, false, project, seen)
  }
}

/** Where Node finds a package from a folder on. */
function find(name: string, from: string): string | undefined {
  for (let dir = from; dir.startsWith(PACKAGE_ROOT.replace(/[\\/]$/, '')); dir = dirname(dir)) {
    const found = join(dir, 'node_modules', name)
    if (existsSync(join(found, 'package.json'))) return found
  }
  return undefined
}

/** Files as links, which take no room; copies where the project lies on another disk. Not what is nested in node_modules. */
export function link(from: string, to: string): void {
  const isPackage = !from.includes(`${sep}.unpacked${sep}`)
  mkdirSync(to, { recursive: true })
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)]
    if (entry.isDirectory()) {
      if (!isPackage || entry.name !== 'node_modules') link(source, target)
    } else if (entry.isFile() && !existsSync(target)) linkOrCopy(source, target)
  }
}

function linkOrCopy(source: string, target: string): void {
  try {
    linkSync(source, target)
  } catch {
    copyFileSync(source, target)
  }
}

/** The size of all files under a folder, in bytes. */
export function sizeOf(dir: string): number {
  return readdirSync(dir, { withFileTypes: true }).reduce((sum, entry) => {
    const path = join(dir, entry.name)
    return sum + (entry.isDirectory() ? sizeOf(path) : lstatSync(path).size)
  }, 0)
}
