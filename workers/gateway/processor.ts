import type { Link } from '../../lib/link/index.js'
import { nameOf } from './catalogue.js'
import type { Processor, Tokenizer } from './requests/index.js'

/** How long a processor may take to say what a cancelled request has used. */
const LAST_WORD_MS = 1000

/** A linked processor, as requests use it. */
export function processorOf(link: Link): Processor & Tokenizer {
  return {
    name: nameOf(link),
    generate: (request, signal) => link.generate(request, signal, LAST_WORD_MS),
    embed: (request, call) => link.call('processor.embed', request, { ...call, lastWordMs: LAST_WORD_MS }),
    tokens: (request, call) => link.call('processor.tokens', request, call),
  }
}
