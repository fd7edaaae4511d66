"""The one base of every error that her2d raises.

Every class stands in the module that raises it:

    Her2dError
    ├─ AlreadyRunningError
    ├─ AmbiguousBundle
    ├─ AmbiguousSlide
    ├─ AnnotationError
    ├─ ArchivingStoppedError
    ├─ BundleError
    │  └─ CalibrationError
    ├─ BundleNotFound
    ├─ CannotListenError
    ├─ ClaimLostError
    ├─ CohortError
    ├─ CopyDiffersError
    ├─ CountsError
    ├─ DatabaseError
    │  ├─ ForeignDatabase
    │  └─ NewerDatabase
    ├─ DecoderCrashedError
    ├─ DuplicateScanError
    ├─ EngineError
    │  ├─ DeviceLostError
    │  ├─ DeviceOutOfMemoryError
    │  ├─ EngineDownError
    │  ├─ NotCapturableError
    │  └─ PlanError
    ├─ FileChangedError
    ├─ FitError
    ├─ FoldsError
    ├─ IntegratorError
    ├─ NoAnswerError
    ├─ NoGpuError
    ├─ NoSuchTile
    ├─ OutcomesError
    ├─ PicturesMissing
    ├─ PrepareError
    ├─ ProvenanceError
    ├─ RecipeError
    ├─ RefusedByQueue
    ├─ RefusedError
    │  ├─ SeveralAreasError
    │  ├─ StructureError
    │  │  ├─ BrokenError
    │  │  └─ IncompleteError
    │  ├─ UnknownFormatError
    │  └─ UnreadableFormatError
    │     └─ MissingLibraryError
    ├─ ResultsUnwritableError
    ├─ ScanMissing
    ├─ SettingsError
    ├─ SlideCancelledError
    ├─ SlideError
    │  ├─ SlideUnavailableError
    │  └─ TooFewTilesError
    ├─ SlideNotFound
    ├─ SourceChangedError
    │  └─ QueuedAgainError
    ├─ StudyError
    ├─ TooFewOutcomes
    ├─ UnknownOperatorError
    ├─ UnreadableStorageError
    ├─ UserError
    └─ WriteCancelledError
"""


class Her2dError(Exception):
    """Something that her2d foresaw went wrong; `str(error)` says what, in one sentence."""
