export type { CallContext, Handler } from './dispatcher.js'
export { Dispatcher } from './dispatcher.js'
export { Link, SILENT_MS, SUSPECT_MS } from './link.js'
export { type GenerationHandler, Net } from './net.js'
