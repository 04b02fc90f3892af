// Calls SaladCloud's TypeScript SDK. Arguments: the SDK's folder. Input: {baseUrl, apiKey, place, documents,
// patches}. Output: one line of JSON, what each call returned or how it failed.
const { SaladCloudSdk } = require(process.argv[2])

async function attempt(call) {
  try {
    return { data: (await call()).data ?? null }
  } catch (error) {
    return { error: String(error.message ?? error), status: error.metadata?.status ?? null }
  }
}

async function life(sdk, place, document, patches) {
  const groups = sdk.containerGroups
  const one = [...place, document.name]
  const steps = [['create', () => groups.createContainerGroup(...place, document)]]
  steps.push(['get', () => groups.getContainerGroup(...one)])
  for (const patch of patches) steps.push(['update', () => groups.updateContainerGroup(...one, patch)])
  steps.push(['list', () => groups.listContainerGroups(...place)])
  steps.push(['stop', () => groups.stopContainerGroup(...one)])
  steps.push(['instances', () => groups.listContainerGroupInstances(...one)])
  steps.push(['system logs', () => sdk.systemLogs.getSystemLogs(...one)])
  steps.push(['delete', () => groups.deleteContainerGroup(...one)])
  const results = []
  for (const [step, call] of steps) results.push({ step, ...(await attempt(call)) })
  return results
}

async function main(input) {
  const sdk = new SaladCloudSdk({ apiKey: input.apiKey, baseUrl: input.baseUrl, timeoutMs: 10000, retry: { attempts: 1 } })
  const [organization, project] = input.place
  const lives = []
  for (const document of input.documents) lives.push(await life(sdk, input.place, document, input.patches))
  const query = { query: '', startTime: '2020-01-01T00:00:00Z', endTime: '2100-01-01T00:00:00Z', pageSize: 100 }
  const gpus = { gpuClasses: ['0b7c9a52-6f0e-4f5c-9a55-1f5a0f0f8c11'] }
  const others = {
    getQuotas: () => sdk.quotas.getQuotas(organization),
    queryLogEntries: () => sdk.logs.queryLogEntries(organization, query),
    listGpuClasses: () => sdk.organizationData.listGpuClasses(organization),
    getCpuAvailability: () => sdk.organizations.getCpuAvailability(organization, {}),
    getGpuAvailability: () => sdk.organizations.getGpuAvailability(organization, gpus),
    getWebhookSecretKey: () => sdk.webhookSecretKey.getWebhookSecretKey(organization),
    updateWebhookSecretKey: () => sdk.webhookSecretKey.updateWebhookSecretKey(organization),
    getWebhookSecretKeyAgain: () => sdk.webhookSecretKey.getWebhookSecretKey(organization),
    listQueues: () => sdk.queues.listQueues(organization, project),
    listInferenceEndpoints: () => sdk.inferenceEndpoints.listInferenceEndpoints(organization, {}),
  }
  const calls = {}
  for (const [name, call] of Object.entries(others)) calls[name] = await attempt(call)
  console.log(JSON.stringify({ lives, calls }))
}

let text = ''
process.stdin.on('data', (chunk) => (text += chunk))
process.stdin.on('end', () => main(JSON.parse(text)))
