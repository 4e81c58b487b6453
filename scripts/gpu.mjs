// Adds node-llama-cpp's prebuilt CUDA or Vulkan back end, which package.json's overrides keep out of a plain `npm ci`.
// They lie in node_modules only: run it again after the next `npm ci`. macOS needs nothing, Metal is always there.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const packages = { cuda: ['cuda', 'cuda-ext'], vulkan: ['vulkan'] }
const wanted = process.argv.slice(2)
const platform = { linux: 'linux', win32: 'win' }[process.platform]

if (wanted.length === 0 || wanted.some((name) => !Object.hasOwn(packages, name))) {
  console.error('Usage: node scripts/gpu.mjs cuda|vulkan [cuda|vulkan]')
  process.exit(64)
}
if (platform === undefined || process.arch !== 'x64') {
  console.error(`There is no prebuilt ${wanted.join(' or ')} back end for ${process.platform} ${process.arch}.`)
  process.exit(69)
}

const root = fileURLToPath(new URL('..', import.meta.url))
const { version } = JSON.parse(readFileSync(`${root}node_modules/node-llama-cpp/package.json`, 'utf8'))
const names = wanted
  .flatMap((name) => packages[name])
  .map((name) => `@node-llama-cpp/${platform}-x64-${name}@${version}`)
const { status } = spawnSync('npm', ['install', '--no-save', '--ignore-scripts', ...names], {
  cwd: root,
  stdio: 'inherit',
  shell: process.platform === 'win32',
})
process.exit(status ?? 1)
