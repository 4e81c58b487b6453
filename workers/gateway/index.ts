export { GatewayWorker } from './worker.js'
