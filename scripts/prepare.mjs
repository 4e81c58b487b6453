// After `npm ci`: build, unless the development dependencies were left out, as in an image that copies dist/ in.
// typescript alone says nothing: it is a peer of node-llama-cpp, so it can be there without the types.
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const needed = ['typescript', '@types/node']
if (needed.every((name) => existsSync(new URL(`../node_modules/${name}`, import.meta.url)))) {
  try {
    execFileSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' })
  } catch {
    process.exit(1)
  }
} else {
  console.log('infermesh: the development dependencies are not installed, so dist/ is not built')
}
