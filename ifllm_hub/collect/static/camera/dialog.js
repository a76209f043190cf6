/** A dialog over the whole page: a title, a sentence, buttons, the camera's picture, dots to look at. */

import { BOX } from "./gaze.js";

/** Resolves once its style is there. It is shown by `open()`, and covers the page until `close()`. */
export async function createDialog() {
  const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL("camera.css", import.meta.url) });
  document.head.append(style);
  await new Promise((resolve) => (style.onload = style.onerror = resolve));

  const dialog = document.createElement("dialog");
  dialog.className = "ifllm-camera";
  dialog.innerHTML = `<section><h2></h2><p role="status"></p><div class="ifllm-picture" hidden>
    <video muted playsinline></video><div></div></div><footer></footer><button class="ifllm-exit" type="button"></button></section>`;
  dialog.addEventListener("cancel", (event) => event.preventDefault()); // there is a button for each way out
  document.body.append(dialog);
  const [section, title, sentence, picture, video, box, footer, exit] = dialog.querySelectorAll("*");
  box.style.setProperty("--box", BOX);

  function say(heading, text) {
    title.textContent = heading;
    sentence.textContent = text;
    picture.hidden = true;
    footer.replaceChildren();
  }

  return {
    video,
    open: () => dialog.open || dialog.showModal(),
    close: () => dialog.close(),
    say,
    /** Show a title, a sentence and buttons, and no dot any more; resolves to the button that is pressed. */
    ask(heading, text, choices) {
      say(heading, text);
      for (const dot of dialog.querySelectorAll(".ifllm-dot")) dot.remove();
      return new Promise((resolve) => {
        for (const choice of choices) {
          const button = Object.assign(document.createElement("button"), { textContent: choice, type: "button" });
          button.onclick = () => {
            footer.replaceChildren();
            resolve(choice);
          };
          footer.append(button);
        }
      });
    },
    /** A way out that is there whenever no other button is; resolves when it is taken. */
    offer(choice) {
      exit.textContent = choice;
      return new Promise((resolve) => (exit.onclick = resolve));
    },
    /** Show the camera's picture with what is asked. */
    showPicture: () => (picture.hidden = false),
    /** Say by the frame's color whether the face is in the box; only then can the first button be pressed. */
    markBox(isInside) {
      box.classList.toggle("ifllm-inside", isInside);
      if (footer.firstChild) footer.firstChild.disabled = !isInside;
    },
    /** A dot at a place, shares of the window: its center (CSS px), its next click, how far it is, and its end. */
    addDot([x, y]) {
      const dot = Object.assign(document.createElement("button"), { type: "button", className: "ifllm-dot" });
      dot.setAttribute("aria-label", "dot");
      Object.assign(dot.style, { left: `${100 * x}%`, top: `${100 * y}%` });
      dialog.append(dot);
      const { left, top, width, height } = dot.getBoundingClientRect();
      return {
        center: [left + width / 2, top + height / 2],
        clicked: () => new Promise((resolve) => dot.addEventListener("click", resolve, { once: true })),
        fill: (share) => dot.style.setProperty("--left", 1 - share),
        remove: () => dot.remove(),
      };
    },
  };
}
