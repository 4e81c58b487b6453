// After `npm ci`: build, unless the development dependencies were left out, as in an image that copies dist/ in.
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

if (existsSync(new URL('../node_modules/typescript', import.meta.url))) {
  execFileSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' })
} else {
  console.log('infermesh: the development dependencies are not installed, so dist/ is not built')
}
