import type { Role } from '../lib/protocol/index.js'
import { runWorker } from '../lib/worker-base/index.js'
import { TestWorker, testOptions } from './worker-kit.js'

/** A test's worker as a process: `node worker-child.js <role> <home> <name>`. */

const [role, home, name] = process.argv.slice(2) as [Role, string, string]
await runWorker((options) => new TestWorker(role, options), testOptions(home, name))
