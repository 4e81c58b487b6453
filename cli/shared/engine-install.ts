import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isAlive } from '../../lib/home/index.js'
import { engineCommand, MeshError, messageOf, systemCode } from '../../lib/protocol/index.js'

/** The engine's packages: which ones a machine needs, and bringing them from the npm registry. */

export const BACK_ENDS = ['cpu', 'cuda', 'vulkan'] as const
export type BackEnd = (typeof BACK_ENDS)[number]

const SCOPE = '@node-llama-cpp/'
/** What each platform's back ends are called; Metal is in the one for the CPU. Others lack rocksdb-native, which stores need. */
const PLATFORMS: Record<string, Partial<Record<BackEnd, string[]>>> = {
  'linux-x64': { cpu: ['linux-x64'], cuda: ['linux-x64-cuda', 'linux-x64-cuda-ext'], vulkan: ['linux-x64-vulkan'] },
  'linux-arm64': { cpu: ['linux-arm64'] },
  'darwin-arm64': { cpu: ['mac-arm64-metal'] },
  'darwin-x64': { cpu: ['mac-x64'] },
  'win32-x64': { cpu: ['win-x64'], cuda: ['win-x64-cuda', 'win-x64-cuda-ext'], vulkan: ['win-x64-vulkan'] },
  'win32-arm64': { cpu: ['win-arm64'] },
}
const MB = 1e6
/** Bytes on disk of version 3.22.1 on 64-bit Linux; `cpu` with node-llama-cpp itself and its JavaScript packages. */
const BYTES: Record<BackEnd, number> = { cpu: 80 * MB, cuda: 565 * MB, vulkan: 75 * MB }
/** npm keeps what it downloads, compressed, beside what it unpacks. */
const CACHE_FACTOR = 1.6

const DIST = fileURLToPath(new URL('../../', import.meta.url))
/** Where engines look first. npm does not look into it: what it installs or prunes elsewhere leaves it as it is. */
const OWN = join(DIST, 'node_modules')

/** Of `process`. */
type Machine = Pick<NodeJS.Process, 'platform' | 'arch'>

export interface Plan {
  backEnd: BackEnd
  /** Exact versions by name. */
  packages: Record<string, string>
  /** About so many on disk. */
  bytes: number
  dir: string
}

/** What brings a back end to this machine; the one for the CPU always comes too. @throws MeshError ENGINE_FAILED where there is none */
export function planInstall(backEnd: BackEnd, { platform, arch }: Machine = process): Plan {
  const here = PLATFORMS[`${platform}-${arch}`]
  const pieces = here?.[backEnd]
  if (here?.cpu === undefined || pieces === undefined) throw noneFor(backEnd, `${platform} ${arch}`, here !== undefined)
  const { version, jinja } = pinned()
  const names = [...new Set([...here.cpu, ...pieces])].map((piece) => SCOPE + piece)
  return {
    backEnd,
    // Templates run on the very version that infermesh was tested with.
    packages: {
      'node-llama-cpp': version,
      ...Object.fromEntries(names.map((name) => [name, version])),
      '@huggingface/jinja': jinja,
    },
    bytes: BYTES.cpu + (backEnd === 'cpu' ? 0 : BYTES[backEnd]),
    dir: OWN,
  }
}

function noneFor(backEnd: BackEnd, machine: string, isSupported: boolean): MeshError {
  const message = isSupported
    ? `There is no prebuilt ${backEnd} back end for ${machine}. \`${engineCommand('cpu')}\` brings what there is${machine.startsWith('darwin') ? ', with Metal' : ''}`
    : `The engine does not run on ${machine}. It runs on ${Object.keys(PLATFORMS).join(', ')}; this machine can still be a client`
  return MeshError.ENGINE_FAILED(message)
}

/** The versions that this infermesh was tested with. */
function pinned(): { version: string; jinja: string } {
  const { peerDependencies, dependencies } = JSON.parse(readFileSync(join(DIST, '..', 'package.json'), 'utf8'))
  return { version: peerDependencies['node-llama-cpp'], jinja: dependencies['@huggingface/jinja'] }
}

export interface Installed {
  backEnd: BackEnd
  /** Whether a prebuilt one exists for this machine. */
  exists: boolean
  installed: boolean
  /** About so many on disk. */
  bytes: number
}

/** The back ends, and which are on this machine. */
export function installedBackEnds({ platform, arch }: Machine = process): Installed[] {
  const base = engineDir()
  return BACK_ENDS.map((backEnd) => {
    const pieces = PLATFORMS[`${platform}-${arch}`]?.[backEnd] ?? []
    const installed = pieces.length > 0 && pieces.every((piece) => base !== undefined && isPiece(base, piece))
    return { backEnd, exists: pieces.length > 0, installed, bytes: BYTES[backEnd] }
  })
}

/** The folder that holds the engine's packages; undefined where this machine has no engine. */
export function engineDir(): string | undefined {
  try {
    const entry = fileURLToPath(import.meta.resolve('node-llama-cpp'))
    return entry.slice(0, entry.lastIndexOf('node-llama-cpp'))
  } catch {
    return undefined
  }
}

/** What overrides keep out leaves a folder of another package, or none. */
function isPiece(base: string, piece: string): boolean {
  const manifest = join(base, SCOPE, piece, 'package.json')
  return existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).name === SCOPE + piece
}

/**
 * Has npm bring the packages into a folder beside, and puts it in place when all of it is there.
 * @param onProgress told how many bytes lie on the disk by now
 * @throws MeshError ENGINE_FAILED with npm's reason, CONFIG_INVALID where the folder cannot be written, DISK_FULL
 */
export async function install(plan: Plan, onProgress: (bytes: number) => void, signal?: AbortSignal): Promise<void> {
  const { dir, packages, bytes } = plan
  mustHaveRoom(dir, bytes * CACHE_FACTOR)
  const staging = join(dirname(dir), `.engine-${process.pid}`)
  const timer = setInterval(() => onProgress(sizeOf(staging)), 1000)
  try {
    clearEnded(dir)
    mkdirSync(staging)
    writeFileSync(join(staging, 'package.json'), JSON.stringify({ private: true, dependencies: packages }))
    // node-llama-cpp names every back end of a platform as optional, and those wanted here are not.
    await npm(
      ['install', '--omit=optional', '--ignore-scripts', '--no-package-lock', '--no-audit', '--no-fund'],
      staging,
      signal,
    )
    const old = `${staging}-old`
    if (existsSync(dir)) renameSync(dir, old)
    renameSync(join(staging, 'node_modules'), dir)
    rmSync(old, { recursive: true, force: true })
  } catch (err) {
    throw err instanceof MeshError ? err : notWritten(dir, err)
  } finally {
    clearInterval(timer)
    rmSync(staging, { recursive: true, force: true })
  }
}

/** Takes away what installs left that were killed, and puts an engine back that one of them had moved aside. */
function clearEnded(dir: string): void {
  const parent = dirname(dir)
  for (const name of readdirSync(parent)) {
    const [, pid, old] = /^\.engine-(\d+)(-old)?$/.exec(name) ?? []
    if (pid === undefined || isAlive(Number(pid))) continue
    if (old !== undefined && !existsSync(dir)) renameSync(join(parent, name), dir)
    else rmSync(join(parent, name), { recursive: true, force: true })
  }
}

function mustHaveRoom(dir: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(dirname(dir))
  if (bavail * bsize > bytes) return
  throw MeshError.DISK_FULL(
    `${Math.round((bavail * bsize) / MB)} MB are free at ${dirname(dir)}, and ${Math.round(bytes / MB)} MB are needed: make room and try again`,
  )
}

function notWritten(dir: string, err: unknown): MeshError {
  const code = systemCode(err)
  const who = code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
  const advice = who ? ': run this as the user who installed infermesh' : ''
  return MeshError.CONFIG_INVALID(`${dir} cannot be written${advice} (${messageOf(err)})`, {}, { cause: err })
}

/** Runs npm, quietly. @throws MeshError ENGINE_FAILED with its reason */
function npm(args: string[], cwd: string, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('npm', [...args, '--loglevel=error'], {
      cwd,
      signal,
      stdio: ['ignore', 'ignore', 'pipe'],
      shell: process.platform === 'win32',
    })
    let stderr = ''
    child.stderr.on('data', (chunk) => {
      stderr = (stderr + chunk).slice(-4096)
    })
    child.once('error', (err) => {
      const missing = systemCode(err) === 'ENOENT'
      const message = missing ? 'npm is not on the path: it comes with Node and brings the engine' : messageOf(err)
      reject(MeshError.ENGINE_FAILED(message, {}, { cause: err }))
    })
    child.once('close', (code) => {
      if (code === 0) resolve()
      else reject(MeshError.ENGINE_FAILED(`npm could not bring the engine: ${reasonOf(stderr)}`))
    })
  })
}

/** What npm gives as its reason, without its prefix and where its log is. */
function reasonOf(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.replace(/^npm (error|ERR!) ?/, '').trim())
  const told = lines.filter((line) => line !== '' && !/complete log|debug-0\.log|^npm warn/.test(line)).slice(0, 4)
  const network = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ECONNRESET/.test(stderr)
  return `${told.join(', ') || 'it gave no reason'}${network ? '. The npm registry cannot be reached from here: is there a network?' : ''}`
}

function sizeOf(dir: string): number {
  let bytes = 0
  try {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      const path = join(dir, entry.name)
      bytes += entry.isDirectory() ? sizeOf(path) : statSync(path).size
    }
  } catch {
    // npm moves its folders about.
  }
  return bytes
}
