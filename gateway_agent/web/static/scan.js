// Reads a board's secret by the camera, in a browser that can find QR codes; in others it is typed.
(() => {
  "use strict";
  if (!("BarcodeDetector" in window) || !navigator.mediaDevices) return;
  begin();
  document.addEventListener("page:read", begin); // the form is there again when a pairing has ended

  function begin() {
    const part = document.getElementById("camera");
    if (!part?.hidden) return;
    const [video, button, says] = ["video", "button", "p"].map((name) => part.querySelector(name));
    const secret = document.getElementById("secret");
    const name = document.getElementById("board");
    let stream = null;
    part.hidden = false;

    function stop() {
      stream?.getTracks().forEach((track) => track.stop());
      stream = null;
      video.hidden = true;
      button.textContent = "Scan with the camera";
    }

    async function look(detector) {
      if (!stream) return;
      const codes = await detector.detect(video).catch(() => []);
      const found = codes.map((code) => code.rawValue).find((text) => /^KEYCAST:/i.test(text));
      if (!found) return setTimeout(look, 150, detector);
      stop();
      secret.value = found;
      says.textContent = "The code is read.";
      (name.value ? part.closest("form").querySelector("button.first") : name).focus();
    }

    button.addEventListener("click", async () => {
      if (stream) return stop();
      try {
        const detector = new BarcodeDetector({ formats: ["qr_code"] });
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
        video.srcObject = stream;
        video.hidden = false;
        await video.play();
        button.textContent = "Stop the camera";
        says.textContent = "Hold the board's code before the camera.";
        look(detector);
      } catch (problem) {
        stop();
        says.textContent = `The camera cannot be used (${problem.name}). Type the 16 characters instead.`;
      }
    });
  }
})();
