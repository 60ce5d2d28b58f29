// Applies for a certificate as an impatient person does: every button twice, back,
// reload; reads the mail in another browser. Then asks how far it is.
import { answer, application, heading, mailed, person, press, readJob } from './lib.mjs'

const job = await readJob()
const context = await person()
const page = await context.newPage()
const problems = []
const expect = (what, ok) => { if (!ok) problems.push(what) }

async function twice(where, selector) {
  await Promise.all([where.waitForEvent('framenavigated'), where.locator(selector).first().dblclick()])
  await where.waitForLoadState('networkidle')
}

await page.goto(job.portal + '/p/rcr')
await application(page, job.applicant)
await twice(page, 'main form .acts .btn')
expect('the confirmation shows the terminal', (await page.locator('main').innerText()).includes(job.applicant.terminal))
await page.goBack()
await page.goForward()
await page.reload()
await twice(page, '[value=apply]')
const sent = page.url()
await page.reload()
expect('the address is named', (await page.locator('main').innerText()).includes(job.applicant.email))
await page.goBack()
await page.goto(sent)

const other = await person()
const reader = await other.newPage()
const link = await mailed(page, job.mail, job.applicant.email, '/p/rcr/c/')
await reader.goto(link)
await reader.reload()
await twice(reader, 'main form .btn')
await reader.reload()
const receipt = (await reader.locator('main .box .id').first().innerText()).replace(/\D/g, '')
const done = await heading(reader)
await page.goto(sent)
expect('the page of the mail knows the receipt', (await page.locator('main').innerText()).replace(/\D/g, '').includes(receipt))
const status = await mailed(page, job.mail, job.applicant.email, '/p/status/l/')
await reader.goto(status)
expect('the receipt leads to the details', (await reader.locator('main').innerText()).includes(job.applicant.terminal))

await page.goto(job.portal + '/p/status')
await page.fill('[name=receiptNumber]', receipt)
await page.fill('[name=holderCode]', job.applicant.code)
await press(page, 'main form .btn')
answer({ receipt, heading: done, status, word: (await page.locator('main [role=status] h2').innerText()).trim(), problems })
await context.close()
await other.close()
