import { Command } from 'commander'

/** The command line, of which every command waits for what never comes. */

Command.prototype.parseAsync = () => new Promise(() => {})
await import('../cli/main.js')
