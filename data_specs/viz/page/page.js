"use strict";
// Players: one sounds at a time, a line shows where it is, a click on the picture goes there. Whoever starts a second
// sound of the same card while the first one plays hears it from the same place on, which is how one compares.
for (const track of document.querySelectorAll(".track")) {
  const audio = track.querySelector("audio");
  const stage = track.querySelector(".stage");
  const head = track.querySelector(".head");
  const seconds = Number(track.dataset.seconds);

  const show = () => {
    head.style.left = `${(100 * Math.min(audio.currentTime, seconds)) / seconds}%`;
    if (!audio.paused) requestAnimationFrame(show);
  };
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll(".track.playing audio")) {
      if (other === audio) continue;
      const beside = other.closest(".card") === audio.closest(".card");
      if (beside && audio.currentTime === 0) audio.currentTime = other.currentTime;
      other.pause();
    }
    track.classList.add("playing", "heard");
    show();
  });
  for (const event of ["pause", "ended"]) audio.addEventListener(event, () => track.classList.remove("playing"));
  audio.addEventListener("seeked", show);
  audio.addEventListener("ended", () => { audio.currentTime = 0; track.classList.remove("heard"); });
  stage.addEventListener("click", (event) => {
    const box = stage.getBoundingClientRect();
    audio.currentTime = (seconds * (event.clientX - box.left)) / box.width;
    audio.play().catch(() => track.classList.add("heard")); // not allowed: show the place, the player starts there
  });
}
