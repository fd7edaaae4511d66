"""The one base of every error that her2d raises.

Every class stands in the module that raises it:

    Her2dError
    ├─ ActorCrashedError
    ├─ AlreadyRunningError
    ├─ AmbiguousBundle
    ├─ AmbiguousSlide
    ├─ AnnotationError
    ├─ ArchivingStoppedError
    ├─ BadParameter
    ├─ BundleError
    │  └─ CalibrationError
    ├─ BundleNotFound
    ├─ CannotListenError
    ├─ ClaimLostError
    ├─ ClusterLostError
    ├─ ClusterUnavailableError
    ├─ CohortError
    ├─ CopyDiffersError
    ├─ CountsError
    ├─ DatabaseError
    │  ├─ ForeignDatabase
    │  ├─ NewerDatabase
    │  └─ UnreleasedDatabase
    ├─ DecoderCrashedError
    ├─ DeliveryError
    ├─ DuplicateScanError
    ├─ EncoderError
    ├─ EngineError
    │  ├─ DeviceLostError
    │  ├─ DeviceOutOfMemoryError
    │  ├─ EngineDownError
    │  ├─ NotCapturableError
    │  └─ PlanError
    ├─ FileChangedError
    ├─ FitError
    ├─ FoldsError
    ├─ HardwareError
    ├─ IntegratorError
    ├─ NoAnswerError
    ├─ NoGpuError
    ├─ NoRoomError
    ├─ NoSuchPage
    ├─ NoSuchRun
    ├─ NoSuchTile
    ├─ NodeError
    ├─ NodeRefusedError
    ├─ NotAFileError
    ├─ OwnShortageError
    ├─ OutcomesError
    ├─ PdfError
    ├─ PicturesMissing
    ├─ PrepareError
    ├─ ProvenanceError
    ├─ QueryTooHeavy
    ├─ ReceiveError
    ├─ RecipeError
    ├─ RefusedByQueue
    ├─ RefusedError
    │  ├─ SeveralAreasError
    │  ├─ StructureError
    │  │  ├─ BrokenError
    │  │  ├─ IncompleteError
    │  │  └─ OversizedError
    │  ├─ UnknownFormatError
    │  └─ UnreadableFormatError
    │     └─ MissingLibraryError
    ├─ ReloadError
    ├─ ResultLostError
    ├─ ResultsUnwritableError
    ├─ SameFileUnsureError
    ├─ ScanMissing
    │  ├─ ScanReplaced
    │  └─ ScanUnverified
    ├─ ScanNotOnNodeError
    ├─ SettingsError
    ├─ SlideCancelledError
    ├─ SlideError
    │  ├─ SlideUnavailableError
    │  └─ TooFewTilesError
    ├─ SlideNotFound
    ├─ SourceChangedError
    │  ├─ ContentChangedError
    │  └─ QueuedAgainError
    ├─ StainError
    ├─ StudyError
    │  └─ FolderHeldError
    ├─ TableError
    ├─ TilesPruned
    ├─ TooBusy
    ├─ TooFewOutcomes
    ├─ TooFewSlidesError
    ├─ UnknownOperatorError
    ├─ UnreadableHereError
    ├─ UnreadableOnNodeError
    ├─ UnreadableStorageError
    ├─ UnwatchableError
    ├─ UserError
    └─ WriteCancelledError
"""


class Her2dError(Exception):
    """Something that her2d foresaw went wrong; `str(error)` says what, in one sentence."""
