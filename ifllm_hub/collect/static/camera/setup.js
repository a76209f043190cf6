/**
 * What a participant does so that the camera shows where they look: the face in a box, nine dots with five clicks each,
 * five seconds of looking at the middle; and between questions, a dot that shows how good the estimates still are.
 */

import { CameraTrouble, openCamera } from "./camera.js";
import { createDialog } from "./dialog.js";
import { calibrate, estimate, qualityOf } from "./gaze.js";

const PLACES = [0.08, 0.5, 0.92];
const MIDDLE = [0.5, 0.5];
const isMiddle = (place) => String(place) === String(MIDDLE);
// Shares of the window; the middle comes last, so that looking at it goes on from there.
const DOTS = PLACES.flatMap((y) => PLACES.map((x) => [x, y])).sort((a, b) => isMiddle(a) - isMiddle(b));
const CLICKS = 5;
const READY_MS = 1500;
const STARE_MS = 5000;
const CHECK_MS = 1000;
// Percent. As in the study, a calibration that is no better does not count.
const TOO_LITTLE = 70;

const [AGAIN, RETRY, GO_ON] = ["Calibrate again", "Try again", "Continue"];
const [WITHOUT, LEAVE] = ["Continue without camera", "Stop and delete"];
const UNSEEN = "Your face is not seen. Sit as before, with light from the front.";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Have a participant set up the camera; resolves to a gaze adapter, or to null if they go on without.
 *
 * With `isRequired` they cannot go on without, but stop and delete: then `leave` is called. The adapter's `calibration`
 * is that of the last check; `check(seal)` has them look at a dot, and calibrate again if that is needed. It calls `seal`
 * before the calibration changes, so that what was recorded until then goes with the one before.
 */
export async function setUp(isRequired, leave) {
  const dialog = await createDialog();
  const otherwise = isRequired ? LEAVE : WITHOUT;
  let isBusy = false;
  let camera, model, calibration, report;

  function release() {
    camera?.stop();
    camera = model = calibration = null;
  }

  async function open() {
    dialog.say("Your camera", "Please allow this page to use it. Its picture is neither stored nor sent.");
    camera = await openCamera(dialog.video);
    camera.watch((face) => face && model && report?.(...estimate(model, face.features), face.isInBox));
    // While something is shown, whoever shows it is told.
    camera.failure.catch((trouble) => attend(() => Promise.reject(trouble)));
  }

  /** Show one thing after the other until the participant can go on; whether they go on with the camera. */
  async function attend(work) {
    if (isBusy) return true;
    isBusy = true;
    dialog.open();
    const isUsed = await withCamera(work);
    isBusy = false;
    dialog.close();
    if (isUsed) return true;
    release();
    if (isRequired) leave();
    return false;
  }

  async function withCamera(work) {
    const left = dialog.offer(otherwise).then(() => false);
    for (;;) {
      try {
        if (!camera) await open();
        return await Promise.race([work(), camera.failure, left]);
      } catch (trouble) {
        if (!(trouble instanceof CameraTrouble)) throw trouble;
        release();
        work = prepare;
        const wish = await dialog.ask("Your camera", trouble.message, [RETRY, otherwise]);
        if (wish === otherwise) return false;
      }
    }
  }

  async function prepare() {
    if (!(await findFace())) return false;
    for (;;) {
      await clickDots();
      calibration = await stare();
      const isGood = calibration?.accuracy > TOO_LITTLE;
      const choices = isGood ? [GO_ON, AGAIN] : [AGAIN, otherwise];
      const wish = await dialog.ask(isGood ? "This works" : "This is not good enough yet", said(), choices);
      if (wish !== AGAIN) return isGood;
    }
  }

  async function findFace() {
    dialog.say("Your face", "One moment: what finds it in the picture is being loaded.");
    dialog.showPicture();
    await camera.ready;
    const told = "Sit as you will while you read, with light from the front, so that both eyes are in the box.";
    const wish = dialog.ask("Your face", told, [GO_ON, otherwise]);
    dialog.showPicture();
    dialog.markBox(false);
    const end = camera.watch((face) => dialog.markBox(Boolean(face?.isInBox)));
    const isFound = (await wish) === GO_ON;
    end();
    return isFound;
  }

  async function clickDots() {
    const samples = [];
    for (const [number, place] of DOTS.entries()) {
      const dot = dialog.addDot(place);
      const told = () => dialog.say(`Dot ${number + 1} of ${DOTS.length}`, `Look at the dot and click it ${CLICKS} times.`);
      told();
      for (let clicks = 0; clicks < CLICKS; ) {
        await dot.clicked();
        const face = camera.latest();
        if (!face) {
          dialog.say("Please wait", UNSEEN);
          continue;
        }
        if (!clicks) told();
        samples.push({ features: face.features, target: dot.center });
        dot.fill(++clicks / CLICKS);
      }
      dot.remove();
    }
    model = calibrate(samples);
  }

  async function stare() {
    const dot = dialog.addDot(MIDDLE);
    dialog.say("Look at the dot", "Keep looking at it until it is gone, for about five seconds. You need not click.");
    await pause(READY_MS);
    return measured(dot, STARE_MS);
  }

  async function check(seal) {
    const dot = dialog.addDot(MIDDLE);
    dialog.say("Look at the dot", "Click it, and keep looking at it until it is gone.");
    await dot.clicked();
    const found = await measured(dot, CHECK_MS);
    seal();
    calibration = found;
    if (calibration?.accuracy > TOO_LITTLE) return true;
    const wish = await dialog.ask("You may have moved", said(), [AGAIN, ...(calibration ? [GO_ON] : []), otherwise]);
    return wish === AGAIN ? prepare() : wish === GO_ON;
  }

  /** How good the estimates are while somebody looks at a dot. */
  async function measured(dot, ms) {
    const mine = camera;
    const estimates = [];
    const end = mine.watch((face) => face && estimates.push(estimate(model, face.features)));
    await pause(ms);
    end();
    dot.remove();
    // If the camera failed meanwhile, something else is shown now.
    return mine === camera ? qualityOf(estimates, dot.center, innerHeight) : new Promise(() => {});
  }

  function said() {
    if (!calibration) return UNSEEN;
    const { accuracy, error } = calibration;
    const characters = Math.round(error / characterWidth());
    const off = `Estimates are off by about ${error} px, or ${characters} characters of an answer.`;
    return `Accuracy: ${accuracy} % (more than ${TOO_LITTLE} % is needed). ${off}`;
  }

  const adapter = {
    get calibration() {
      return calibration;
    },
    start: (onPoint) => (report = onPoint),
    stop() {
      release();
      dialog.close();
    },
    check: (seal) => model && attend(() => check(seal)),
  };
  return (await attend(prepare)) ? adapter : null;
}

/** Mean width of a character of the study's answers, CSS px. */
function characterWidth() {
  const text = "The quick brown fox jumps over the lazy dog, and then sleeps for an hour.";
  const line = Object.assign(document.createElement("span"), { className: "ifllm-text", textContent: text });
  line.style.cssText = "position: absolute; visibility: hidden; padding: 0; white-space: nowrap";
  (document.querySelector(".gradio-container") ?? document.body).append(line);
  const { width } = line.getBoundingClientRect();
  line.remove();
  return width / text.length;
}
