// After `npm ci`, and before `npm pack`: build, unless the development dependencies were left out, as in an image that copies dist/ in.
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

if (existsSync(new URL('../node_modules/typescript', import.meta.url))) {
  try {
    execFileSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' })
  } catch {
    process.exit(1)
  }
} else {
  console.log('infermesh: the development dependencies are not installed, so dist/ is not built')
}
