import { existsSync, readdirSync, readFileSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findLogin, readRoles } from '../../lib/home/index.js'
import { engineCommand } from '../../lib/protocol/index.js'
import { engineDir, installedBackEnds } from '../shared/engine-install.js'
import { bytesText } from '../shared/output.js'
import type { Finding } from './finding.js'
import { readable } from './home.js'

/** What the machine gives: Node, room on the disk, the engine, the model file. */

const NODE_MAJOR = 20
const LOW_DISK_BYTES = 1024 ** 3
const NO_DISK_BYTES = 64 * 1024 ** 2

export function nodeVersion(): Finding {
  const check = 'node'
  if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR) {
    return { check, state: 'ok', message: `Node ${process.versions.node}` }
  }
  return {
    check,
    state: 'fail',
    message: `Node ${process.versions.node} is too old`,
    advice: `install Node ${NODE_MAJOR} or newer`,
  }
}

export function diskSpace(home: string): Finding {
  const check = 'disk'
  let path = home
  while (!existsSync(path)) path = join(path, '..')
  const { bavail, bsize } = statfsSync(path)
  const free = bavail * bsize
  const message = `${bytesText(free)} free at ${path}`
  const advice = 'free some space: gateways refuse requests when they cannot record them'
  if (free < NO_DISK_BYTES) return { check, state: 'fail', message, advice }
  return free < LOW_DISK_BYTES ? { check, state: 'warn', message, advice } : { check, state: 'ok', message }
}

/** Whether a processor of this home has an engine to run models with. Other workers and clients need none. */
export function engine(home: string): Finding[] {
  const check = 'engine'
  const bring = `\`${engineCommand('cpu')}\` brings it, \`${engineCommand('cuda')}\` or \`${engineCommand('vulkan')}\` with a GPU’s back end`
  if (engineDir() !== undefined) {
    const names = installedBackEnds().flatMap(({ backEnd, installed }) => (installed ? [backEnd] : []))
    return names.length > 0
      ? [{ check, state: 'ok', message: `node-llama-cpp, for ${names.join(', ')}` }]
      : [{ check, state: 'warn', message: 'node-llama-cpp is here without a back end of its own', advice: bring }]
  }
  const roles = readable(() => readRoles(home))
  const isUser = roles === undefined && readable(() => findLogin(home)) !== undefined
  if (isUser || roles?.some(({ role }) => role === 'processor') === false) return []
  return [
    {
      check,
      state: 'fail',
      message: 'this machine has no engine, so a processor does not start here',
      advice: bring,
    },
  ]
}

export function embeddedModel(): Finding {
  const check = 'model'
  const dir = fileURLToPath(new URL('../../../models', import.meta.url))
  const file = existsSync(dir) ? readdirSync(dir).find((name) => name.endsWith('.gguf')) : undefined
  if (file === undefined) {
    return {
      check,
      state: 'fail',
      message: `no model file in ${dir}`,
      advice: 'install infermesh again; large files may be missing from the copy',
    }
  }
  const path = join(dir, file)
  // A checkout without large files holds a few lines of text in the model's place.
  if (readFileSync(path).subarray(0, 4).toString('latin1') !== 'GGUF') {
    return { check, state: 'fail', message: `${path} is no GGUF file`, advice: 'fetch it again: `git lfs pull`' }
  }
  return { check, state: 'ok', message: `${file}, ${bytesText(statSync(path).size)}` }
}
